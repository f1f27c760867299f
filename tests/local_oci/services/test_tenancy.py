"""Identity and Limits: what a preflight and other clients ask about the tenancy."""

from __future__ import annotations

import oci
import pytest

from tests.local_oci.support import Sdk, ds, refusal

A10_LIMIT = "ds-gpu-a10-count"  # the name that ADS uses for VM.GPU.A10.1 and VM.GPU.A10.2


@pytest.fixture(scope="module")
def limits(sdk: Sdk) -> oci.limits.LimitsClient:
    return sdk.client(oci.limits.LimitsClient)


def test_the_tenancy_is_its_own_root_compartment(sdk: Sdk) -> None:
    tenancy = sdk.identity.get_tenancy(sdk.compartment).data
    root = sdk.identity.get_compartment(sdk.compartment).data
    assert (tenancy.id, root.id, root.lifecycle_state) == (
        sdk.compartment,
        sdk.compartment,
        "ACTIVE",
    )
    assert sdk.identity.list_compartments(sdk.compartment).data == []
    assert refusal(lambda: sdk.identity.get_tenancy("ocid1.tenancy.oc1..other"))[0] == 404


def test_the_region_of_the_config_file_is_the_home_region(sdk: Sdk) -> None:
    (subscription,) = sdk.identity.list_region_subscriptions(sdk.compartment).data
    assert (subscription.region_name, subscription.is_home_region) == (sdk.config["region"], True)
    (region,) = sdk.identity.list_regions().data
    assert region.name == sdk.config["region"]
    assert len(sdk.identity.list_availability_domains(sdk.compartment).data) == 1


def test_the_policy_says_that_everything_is_allowed(sdk: Sdk) -> None:
    (policy,) = sdk.identity.list_policies(sdk.compartment).data
    assert policy.statements[0] == "Allow any-user to manage all-resources in tenancy"


def test_data_science_has_limits(sdk: Sdk, limits: oci.limits.LimitsClient) -> None:
    assert [found.name for found in limits.list_services(sdk.compartment).data] == ["data-science"]
    defined = limits.list_limit_definitions(sdk.compartment, service_name="data-science", limit=3)
    assert len(defined.data) == 3
    assert defined.has_next_page
    values = limits.list_limit_values(sdk.compartment, "data-science", name=A10_LIMIT).data
    assert [value.value for value in values] == [8]
    assert refusal(
        lambda: limits.get_resource_availability("data-science", "no", sdk.compartment)
    ) == (404, "NotAuthorizedOrNotFound")


def _details(sdk: Sdk, model: str, shape: str, instances: int):
    details = sdk.deployment_details(model)
    configuration = details.model_deployment_configuration_details.model_configuration_details
    configuration.instance_configuration.instance_shape_name = shape
    configuration.scaling_policy = ds.FixedSizeScalingPolicy(instance_count=instances)
    return details


def test_deployments_use_up_a_limit(sdk: Sdk, limits: oci.limits.LimitsClient) -> None:
    def left() -> tuple[int, int]:
        availability = limits.get_resource_availability(
            "data-science", A10_LIMIT, sdk.compartment
        ).data
        return availability.used, availability.available

    model = sdk.model()
    assert left() == (0, 8)
    answer = sdk.data_science.create_model_deployment(_details(sdk, model, "VM.GPU.A10.2", 3))
    sdk.finished(answer.headers["opc-work-request-id"])
    assert left() == (6, 2)
    for shape, instances in (("VM.GPU.A10.1", 3), ("BM.GPU.B200.8", 1)):
        details = _details(sdk, model, shape, instances)
        with pytest.raises(oci.exceptions.ServiceError) as refused:
            sdk.data_science.create_model_deployment(details)
        assert (refused.value.status, refused.value.code) == (400, "LimitExceeded")
    sdk.delete(answer.data.id)
    assert left() == (0, 8)
