"""What can be read of a tenancy before a deployment: the shape's limit, and policies."""

from __future__ import annotations

from typing import Any

import oci
from oci.identity import IdentityClient
from oci.limits import LimitsClient

from falconry.cloud.retries import all_records
from falconry.cloud.session import Session
from falconry.oci_facts import GpuShape, find_shape, load_limits
from falconry.preflight.subject import Account, ServiceLimit

_WRONG_SCOPE = 400
_UNREACHED = (oci.exceptions.RequestException, oci.exceptions.ConnectTimeout)


def read_account(session: Session, shape: str) -> Account:
    """What this user may see of the tenancy. Nothing is refused for what cannot be read.

    Args:
        session: whose tenancy.
        shape: that the deployment asks for.
    """
    limit = _limit_of(session, shape)
    try:
        return Account(limit, _statements(session))
    except (oci.exceptions.ServiceError, *_UNREACHED) as error:
        return Account(limit, None, _reason(error))


def _limit_of(session: Session, shape: str) -> ServiceLimit | None:
    """The limit that a shape counts for; None for shapes without GPUs, and where none is known."""
    if not isinstance(find_shape(shape), GpuShape):
        return None
    try:
        name = load_limits().account.limit_of(shape) or _described(session, shape)
    except (oci.exceptions.ServiceError, *_UNREACHED) as error:
        return ServiceLimit(f"that of {shape}", None, _reason(error))
    return None if name is None else _limit(session, name)


def _described(session: Session, shape: str) -> str | None:
    """The name of the limit that the cloud's list of limits describes as a shape's."""
    client: Any = session.client(LimitsClient)
    account = load_limits().account
    found = all_records(
        client.list_limit_definitions, session.tenancy, service_name=account.service
    )
    names = (each.name for each in found if account.describes(each.description or "", shape))
    return next(names, None)


def _limit(session: Session, name: str) -> ServiceLimit:
    """What is left of a limit: in the region, or in the availability domain with most of it.

    Which of the two a limit is for is not documented for this service; the API answers 400 to the
    wrong question (oci 2.189.0, `get_resource_availability`).
    """
    client: Any = session.client(LimitsClient)
    service = load_limits().account.service

    def left(**scope: str) -> float | None:
        answer = client.get_resource_availability(service, name, session.tenancy, **scope).data
        return None if answer.available is None else float(answer.available)

    try:
        try:
            found = [left()]
        except oci.exceptions.ServiceError as error:
            if error.status != _WRONG_SCOPE:
                raise
            found = [left(availability_domain=domain) for domain in _domains(session)]
    except (oci.exceptions.ServiceError, *_UNREACHED) as error:
        return ServiceLimit(name, None, _reason(error))
    told = [each for each in found if each is not None]
    return ServiceLimit(name, max(told, default=None), "" if told else "no number is told")


def _domains(session: Session) -> list[str]:
    client: Any = session.client(IdentityClient)
    return [each.name for each in client.list_availability_domains(session.tenancy).data]


def _statements(session: Session) -> list[str]:
    """Of the policies of the compartment and the tenancy's root."""
    client: Any = session.client(IdentityClient)
    statements: list[str] = []
    for compartment in dict.fromkeys((session.compartment_id, session.tenancy)):
        policies = all_records(client.list_policies, compartment)
        statements += [line for policy in policies for line in policy.statements]
    return statements


def _reason(error: Exception) -> str:
    if isinstance(error, oci.exceptions.ServiceError):
        return f"{error.status} {error.code}"
    return "the service does not answer"
