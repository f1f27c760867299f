"""What is read of a tenancy, of local_oci's, which has neither limits nor policies to read."""

from __future__ import annotations

from typing import Any

import oci
import pytest

from falconry.cloud.allowances import read_account


class Tenancy:
    """A session of a tenancy whose services answer as a test wants."""

    tenancy = compartment_id = "ocid1.tenancy.oc1..t"

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
    account = read_account(tenancy, "VM.GPU.A10.2")
    assert account.limit is not None and account.limit.available == left
    assert account.statements == ["allow a", "allow b"]


def test_what_may_not_be_read_is_told() -> None:
    tenancy: Any = Tenancy(domains={}, scoped=True, policies=False)
    account = read_account(tenancy, "VM.GPU.A10.2")
    assert account.limit is not None and account.limit.available is None
    assert (account.statements, account.reason) == (None, "404 NotAuthorizedOrNotFound")


def test_a_shape_without_a_known_limit_has_none() -> None:
    tenancy: Any = Tenancy(domains={}, scoped=False, policies=True)
    assert read_account(tenancy, "BM.GPU.H100.8").limit is None


def test_a_cloud_without_these_services_is_told_as_that(session: Any) -> None:
    account = read_account(session, "VM.GPU.A10.1")
    assert account.limit is not None and account.limit.available is None
    assert account.limit.reason and account.statements is None and account.reason
