"""The status of a deployment: what it runs, its state and errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from oci.data_science import DataScienceClient

from falconry.cloud.retries import all_records
from falconry.cloud.session import Session, translate_cloud_errors
from falconry.cloud.work_requests import ENDED, request_errors
from falconry.deployment.deployments import Deployments
from falconry.deployment.expiry import EXPIRES_TAG
from falconry.deployment.spending import Spending, spending_of
from falconry.deployment.target import ARTIFACT_TAG, ENGINE_TAG, IMAGE_TAG, KEY_TAG
from falconry.shapes.prices import Prices

# As init scripts' `status` has it: 0 running, 3 not running, 1 otherwise not right (Linux Standard
# Base 5.0, "Init Script Actions").
_EXIT_ACTIVE, _EXIT_ILL, _EXIT_ABSENT = 0, 1, 3


@dataclass(frozen=True, slots=True)
class DeploymentStatus:
    """The facts of a deployment; None if there is no such fact.

    Attributes:
        state: Oracle's lifecycle state; None when nothing is deployed.
        verified: whether it has answered since it was last changed.
        since: when it entered this state, in ISO 8601.
        engine: the engine's key.
        instances: a number, or `1 to 4` with the current number.
        operation: the running operation, or else the last one: its kind, status and OCID.
        details: what the cloud says of a deployment that is ACTIVE, such as how many of its
            containers were replaced and why.
        expires: when `make reap` may deactivate it, in ISO 8601.
        spending: what it has used since it was last started; None while it is stopped.
        error: what is wrong.
    """

    deployment: str
    state: str | None = None
    verified: bool = False
    since: str | None = None
    url: str | None = None
    id: str | None = None
    model: str | None = None
    artifact: str | None = None
    image: str | None = None
    engine: str | None = None
    shape: str | None = None
    instances: str | None = None
    operation: str | None = None
    details: str | None = None
    expires: str | None = None
    spending: Spending | None = None
    error: str | None = None

    @property
    def exit_status(self) -> int:
        """0 when ACTIVE, 3 when nothing is deployed, 1 otherwise."""
        if self.state is None:
            return _EXIT_ABSENT
        return _EXIT_ACTIVE if self.state == "ACTIVE" else _EXIT_ILL

    def facts(self) -> Mapping[str, Any]:
        """Returns the facts for a program."""
        return asdict(self)

    def table(self) -> list[str]:
        """Returns the facts for people, each in a line."""
        rows = {**asdict(self), "state": self.state or "nothing is deployed"}
        verified = rows.pop("verified")
        rows.pop("spending")
        if self.spending is not None:
            rows |= {"uptime": self.spending.uptime(), "cost": self.spending.price()}
        if self.state == "ACTIVE" and not verified:
            rows["state"] = "ACTIVE, and has not answered yet as it is"
        return [f"{name:<12}{value}" for name, value in rows.items() if value is not None]


def status_of(session: Session, name: str, prices: Prices | None = None) -> DeploymentStatus:
    """Reads the status of a name's newest deployment; prices tell what it costs."""
    known = [each for each in Deployments(session).named(name) if each.lifecycle_state != "DELETED"]
    # A deployment that is being deleted counts only if there is no other.
    newest = max(
        known,
        key=lambda each: (each.lifecycle_state != "DELETING", each.time_created),
        default=None,
    )
    found = _StatusReader(session, newest.id).status(prices) if newest else None
    # It may have been deleted since the list was read.
    if found is None or found.state == "DELETED":
        return DeploymentStatus(name, error="run: make deploy")
    return found


class _StatusReader:
    def __init__(self, session: Session, deployment_id: str) -> None:
        self._session = session
        self._client: Any = session.client(DataScienceClient)
        self._deployment = Deployments(session).read(deployment_id)
        self._requests = self._work_requests()

    def status(self, prices: Prices | None) -> DeploymentStatus:
        deployment = self._deployment
        configuration = deployment.model_deployment_configuration_details
        model = configuration.model_configuration_details
        tags = deployment.freeform_tags or {}
        newest = next(iter(self._requests), None)
        is_active = deployment.lifecycle_state == "ACTIVE"
        details = deployment.lifecycle_details or ""
        return DeploymentStatus(
            deployment=deployment.display_name,
            state=deployment.lifecycle_state,
            verified=KEY_TAG in tags,
            since=self._since(),
            url=deployment.model_deployment_url,
            id=deployment.id,
            model=model.model_id,
            artifact=tags.get(ARTIFACT_TAG),
            image=_image(configuration.environment_configuration_details, tags),
            engine=tags.get(ENGINE_TAG),
            shape=_shape(model.instance_configuration),
            instances=_instances(model.scaling_policy, deployment.model_deployment_system_data),
            operation=newest and f"{newest.operation_type} {newest.status}  {newest.id}",
            details=(details or None) if is_active else None,
            expires=tags.get(EXPIRES_TAG),
            spending=spending_of(deployment, self._requests, datetime.now(UTC), prices),
            error=self._error("" if is_active else details),
        )

    def _since(self) -> str:
        ended = (each.time_finished for each in self._requests if each.time_finished)
        begun = (each.time_accepted for each in self._requests if each.status not in ENDED)
        moment = next(begun, None) or next(ended, None) or self._deployment.time_created
        return f"{moment:%Y-%m-%dT%H:%M:%SZ}"

    def _error(self, details: str) -> str | None:
        """Returns lifecycle details and the errors of a failed last operation."""
        newest = next(iter(self._requests), None)
        said = [details]
        if newest is not None and newest.status == "FAILED":
            said += request_errors(self._client, newest.id)
        lines = [text.partition("\n")[0] for text in said if text]
        return "; ".join(dict.fromkeys(lines)) or None

    def _work_requests(self) -> list[Any]:
        """Lists the deployment's operations, the newest first."""
        with translate_cloud_errors("looking for its operations"):
            found = all_records(
                self._client.list_work_requests,
                self._session.compartment_id,
                resource_id=self._deployment.id,
            )
        return sorted(found, key=lambda each: each.time_accepted, reverse=True)


def _image(container: Any, tags: Mapping[str, str]) -> str:
    digest = container.image_digest or tags.get(IMAGE_TAG)
    return f"{container.image}@{digest}" if digest else str(container.image)


def _shape(instance: Any) -> str:
    size = instance.model_deployment_instance_shape_config_details
    if size is None or size.ocpus is None:
        return str(instance.instance_shape_name)
    return f"{instance.instance_shape_name}, {size.ocpus:g} OCPU, {size.memory_in_gbs:g} GB"


def _instances(policy: Any, system: Any) -> str:
    present = getattr(system, "current_instance_count", None)
    if policy is None or policy.policy_type == "FIXED_SIZE":
        return str(policy.instance_count if policy else present or 1)
    limits = policy.auto_scaling_policies[0]
    span = f"{limits.minimum_instance_count} to {limits.maximum_instance_count}"
    return span if present is None else f"{span}, {present} now"
