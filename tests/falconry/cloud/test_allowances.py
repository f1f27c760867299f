"""What is read of a tenancy: of a made-up one, and of local_oci's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import oci
import pytest

from falconry.cloud.shapes import offered_shape
from falconry.deployment.account import read_account
from falconry.oci_facts import load_limits
from falconry.settings import Settings, load_settings

ROOT = Path(__file__).parents[3]


def profile(shape: str) -> Settings:
    """The profile for Oracle's cloud, with another shape."""
    return load_settings(ROOT, "oci", overrides=f"deployment.shape={shape}")


class Tenancy:
    """A session of a tenancy whose services answer as a test wants."""

    tenancy = compartment_id = "ocid1.tenancy.oc1..t"
    region = "us-ashburn-1"

    def __init__(self, *, domains: dict[str, float], scoped: bool, policies: bool) -> None:
        self._domains, self._scoped, self._policies = domains, scoped, policies

    def client(self, kind: Any) -> Any:
        return self

    def list_availability_domains(self, tenancy: str) -> Any:
        domains = [oci.identity.models.AvailabilityDomain(name=name) for name in self._domains]
        return self._answer(domains)

    def get_resource_availability(
        self, service: str, name: str, tenancy: str, availability_domain: str | None = None
    ) -> Any:
        assert (service, name) == ("data-science", "ds-gpu-a10-count")
        if self._scoped is (availability_domain is None):
            raise oci.exceptions.ServiceError(400, "InvalidParameter", {}, "no such scope")
        left = self._domains[str(availability_domain)] if self._scoped else 7
        return self._answer(oci.limits.models.ResourceAvailability(available=left))

    def get_compartment(self, compartment: str) -> Any:
        return self._answer(oci.identity.models.Compartment(name="ml"))

    def list_dynamic_groups(self, tenancy: str, **_: Any) -> Any:
        rule = "ALL {resource.type = 'datasciencemodeldeployment'}"
        group = oci.identity.models.DynamicGroup(name="g", id="ocid1.g", matching_rule=rule)
        return self._answer([group])

    def list_policies(self, compartment: str, **_: Any) -> Any:
        if not self._policies:
            raise oci.exceptions.ServiceError(404, "NotAuthorizedOrNotFound", {}, "no")
        return self._answer([oci.identity.models.Policy(statements=["allow a", "allow b"])])

    @staticmethod
    def _answer(data: Any) -> Any:
        return oci.response.Response(200, {}, data, None)


@pytest.mark.parametrize(("scoped", "left"), [(False, 7), (True, 4)])
def test_a_limit_is_read_for_the_region_or_the_domain_with_most_of_it(
    scoped: bool, left: float
) -> None:
    tenancy: Any = Tenancy(domains={"AD-1": 1, "AD-2": 4}, scoped=scoped, policies=True)
    account = read_account(tenancy, profile("VM.GPU.A10.2"))
    assert account.limit is not None and account.limit.available == left
    assert account.statements == ["allow a", "allow b"]
    assert account.groups is not None and account.groups[0].id == "ocid1.g"
    assert account.scope is not None and account.scope.compartment_name == "ml"


# Series: oci 2.189.0, ModelDeploymentShapeSummary.
@pytest.mark.parametrize(
    ("name", "series", "found"),
    [
        ("VM.GPU.H100.1", "NVIDIA_GPU", ("GpuShape", 1)),
        ("VM.GPU.X9.1", "NVIDIA_GPU", ("UnusableShape", None)),
        ("VM.Standard.A2.Flex", "ARM", ("UnusableShape", None)),
        ("VM.Standard.E9.Flex", "GENERIC", ("CpuShape", None)),
        ("VM.Standard.E8.Flex", "GENERIC", ("NoneType", None)),
    ],
    ids=["family", "gpu", "arm", "cpu", "absent"],
)
def test_a_shape_that_the_table_lacks_is_read_from_the_service(
    name: str, series: str, found: tuple[str, int | None]
) -> None:
    tenancy: Any = Tenancy(domains={}, scoped=False, policies=True)
    listed = name if found[0] != "NoneType" else "VM.Standard9.1"
    summary = oci.data_science.models.ModelDeploymentShapeSummary(
        name=listed, core_count=4, memory_in_gbs=64, shape_series=series
    )
    tenancy.list_model_deployment_shapes = lambda compartment: Tenancy._answer([summary])
    shape = offered_shape(tenancy, name.lower())
    assert (type(shape).__name__, getattr(shape, "gpus", None)) == found
    offer = read_account(tenancy, profile("VM.GPU.A10.4")).offer
    assert offer is not None and offer.shape is None  # the samples alone name it
    assert read_account(tenancy, profile("VM.GPU.A10.2")).offer is None


def test_what_may_not_be_read_is_told() -> None:
    tenancy: Any = Tenancy(domains={}, scoped=True, policies=False)
    account = read_account(tenancy, profile("VM.GPU.A10.2"))
    assert account.limit is not None and account.limit.available is None
    assert (account.statements, account.reason) == (None, "404 NotAuthorizedOrNotFound")


# The console's words for GPU.A10, GPU.A100 and GPU.H100 (RahulMR42/oci-ai-quickactions-demo,
# docs/limits.md), and for GPU2 and GPU3 (Compute's limits, as public guides quote them).
@pytest.mark.parametrize(
    ("shape", "description", "found"),
    [
        ("BM.GPU.H100.8", "GPUs for GPU.H100 based VM and BM Instances", True),
        ("BM.GPU.A100-v2.8", "GPUs for GPU.A100 based VM and BM Instances", True),
        ("VM.GPU3.2", "GPUs for GPU3 based VM and BM Instances", True),
        ("BM.GPU.L40S-NC.4", "GPUs for GPU.L40S based VM and BM Instances", True),
        ("BM.GPU.H100.8", "GPUs for GPU.H200 based VM and BM Instances", False),
        ("VM.Standard.E4.Flex", "GPUs for GPU.A10 based VM and BM Instances", False),
    ],
)
def test_a_limit_is_known_by_what_the_cloud_says_of_it(
    shape: str, description: str, found: bool
) -> None:
    assert load_limits().account.describes(description, shape) is found


def test_a_limit_that_nobody_published_is_looked_up(session: Any, cloud: Any) -> None:
    account = read_account(session, profile("BM.GPU.H100.8"))
    assert account.limit is not None and account.limit.available == 8
    assert read_account(session, profile("VM.Standard.E4.Flex")).limit is None
    cloud.fault(kind="policy", operation="list_limit_definitions")
    refused = read_account(session, profile("BM.GPU.H100.8")).limit
    assert refused is not None and refused.reason == "404 NotAuthorizedOrNotFound"


def test_limits_and_policies_are_read_of_the_cloud(session: Any) -> None:
    account = read_account(session, profile("VM.GPU.A10.1"))
    assert account.limit is not None and account.limit.available is not None
    assert account.limit.available > 0
    assert account.statements


def test_a_cloud_that_does_not_show_them_is_told_as_that(session: Any, cloud: Any) -> None:
    for operation in ("get_resource_availability", "list_policies"):
        cloud.fault(
            kind="status", operation=operation, status=404, code="NotAuthorizedOrNotFound", times=9
        )
    account = read_account(session, profile("VM.GPU.A10.1"))
    cloud.forget_faults()
    assert account.limit is not None and account.limit.available is None
    assert account.limit.reason and account.statements is None and account.reason
