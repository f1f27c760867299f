"""Reads limits, policies and SDK models for the preflight of deployments."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import oci
from oci.identity import IdentityClient
from oci.limits import LimitsClient

from falconry.cloud.retries import all_records
from falconry.cloud.session import Session
from falconry.cloud.shapes import offered_shape
from falconry.deployment.policies import DynamicGroup, scope_of
from falconry.deployment.preflight.subject import (
    Account,
    Artifact,
    Compute,
    Container,
    DeploymentSubject,
    Image,
    Offer,
    ServiceLimit,
)
from falconry.engine.manifest import Manifest
from falconry.engine.toolchain import Toolchain
from falconry.errors import CloudError
from falconry.oci_facts import GpuShape, find_shape, load_limits
from falconry.settings import Settings

_WRONG_SCOPE = 400
_UNREACHED = (oci.exceptions.RequestException, oci.exceptions.ConnectTimeout)


def read_account(session: Session, settings: Settings) -> Account:
    """Reads the limit of the profile's shape and the policies that this user may see."""
    shape = settings.deployment.shape
    known, offer = find_shape(shape), None
    if known is None or (isinstance(known, GpuShape) and not known.confirmed):
        offer = _offer(session, shape)
        known = known or offer.shape
    limit = _limit_of(session, shape) if isinstance(known, GpuShape) else None
    return replace(read_policies(session, settings), limit=limit, offer=offer)


def read_policies(session: Session, settings: Settings) -> Account:
    """Reads the policies and dynamic groups that this user may see."""
    scope = scope_of(settings, session.tenancy, session.region)
    try:
        statements = _statements(session)
    except (oci.exceptions.ServiceError, *_UNREACHED) as error:
        return Account(reason=_reason(error), scope=scope)
    name, groups = None, None
    client: Any = session.client(IdentityClient)
    with contextlib.suppress(oci.exceptions.ServiceError, *_UNREACHED):
        name = client.get_compartment(scope.compartment).data.name
        groups = [
            DynamicGroup(each.name, each.id, each.matching_rule)
            for each in all_records(client.list_dynamic_groups, session.tenancy)
        ]
    scope = replace(scope, compartment_name=name)
    return Account(statements=statements, groups=groups, scope=scope)


def _offer(session: Session, shape: str) -> Offer:
    try:
        return Offer(offered_shape(session, shape))
    except CloudError as error:
        return Offer(None, error.problem)


def _limit_of(session: Session, shape: str) -> ServiceLimit | None:
    """Reads the limit of a GPU shape; None if none is known."""
    try:
        name = load_limits().account.limit_of(shape) or _described(session, shape)
    except (oci.exceptions.ServiceError, *_UNREACHED) as error:
        return ServiceLimit(f"that of {shape}", None, _reason(error))
    return None if name is None else _limit(session, name)


def _described(session: Session, shape: str) -> str | None:
    """Finds a shape's limit by the cloud's descriptions of limits."""
    client: Any = session.client(LimitsClient)
    account = load_limits().account
    found = all_records(
        client.list_limit_definitions, session.tenancy, service_name=account.service
    )
    names = (each.name for each in found if account.describes(each.description or "", shape))
    return next(names, None)


def _limit(session: Session, name: str) -> ServiceLimit:
    """Reads what a limit leaves in the region or an availability domain.

    Which of the two a limit is for is not documented for this service; the API answers 400 to the
    wrong request (oci 2.189.0, `get_resource_availability`).
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
    known = [each for each in found if each is not None]
    return ServiceLimit(name, max(known, default=None), "" if known else "no number was given")


def _domains(session: Session) -> list[str]:
    client: Any = session.client(IdentityClient)
    return [each.name for each in client.list_availability_domains(session.tenancy).data]


def _statements(session: Session) -> list[str]:
    """Reads the policy statements of the compartment and the tenancy's root."""
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


def subject_of(
    name: str,
    configuration: Any,
    artifact: Artifact,
    image: Image,
    *,
    engine: Manifest | None = None,
    toolchain: Toolchain | None = None,
    account: Account | None = None,
) -> DeploymentSubject:
    """Makes the subject of the preflight checks; see `DeploymentSubject`.

    The configuration is oci's SingleModelDeploymentConfigurationDetails; its model need not exist.
    """
    return DeploymentSubject(
        name=name,
        artifact=artifact,
        container=_container(configuration.environment_configuration_details),
        image=image,
        compute=_compute(configuration.model_configuration_details),
        engine=engine,
        toolchain=toolchain,
        account=account or Account(),
    )


def _container(details: Any) -> Container:
    return Container(
        command=details.cmd or (),
        entrypoint=details.entrypoint or (),
        environment=details.environment_variables or {},
    )


def _compute(details: Any) -> Compute:
    instance = details.instance_configuration
    size = instance.model_deployment_instance_shape_config_details
    return Compute(
        shape=instance.instance_shape_name,
        ocpus=size.ocpus if size else None,
        memory_gib=size.memory_in_gbs if size else None,
        instances=_most_instances(details.scaling_policy),
    )


def _most_instances(policy: Any) -> int:
    """Returns the number of instances, with autoscaling the most."""
    if policy is None:
        return 1
    if policy.policy_type == "FIXED_SIZE":
        return int(policy.instance_count)
    counts = [each.maximum_instance_count for each in policy.auto_scaling_policies or ()]
    return max((int(count) for count in counts if count is not None), default=1)
