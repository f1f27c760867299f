"""The model deployment: found by its name, made, updated one option group at a time, deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import oci
from oci.data_science import DataScienceClient
from oci.data_science import models as oci_models

from falconry.cloud.logs import LogPlace
from falconry.cloud.session import Session, cloud_errors_told
from falconry.cloud.work_requests import wait_for
from falconry.errors import CloudError
from falconry.image.output import ImageOutput
from falconry.repository.place import MODEL_REPOSITORY
from falconry.settings import DeploymentSettings, ServingSettings

KEY_TAG = "falconry-key"
IMAGE_TAG = "falconry-image"
_GONE = frozenset({"DELETING", "DELETED"})
_MOVING = frozenset({"CREATING", "UPDATING", "DELETING"})
_DEFAULT_TRITON_PORT = 8000
_CONTAINER_OPTIONS = ("image", "image_digest", "cmd", "server_port", "health_check_port")
_VARIABLES = "environment_variables"

Report = Callable[[str, float | None], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a deployment shall be."""

    settings: DeploymentSettings
    serving: ServingSettings
    image: ImageOutput
    model_id: str
    project_id: str
    log: LogPlace
    tags: Mapping[str, str]


class Deployments:
    """The deployments of one profile."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._client: Any = session.client(DataScienceClient)

    def find(self, name: str) -> Any | None:
        """The summary of the newest deployment of this name that is not deleted, if any."""
        with cloud_errors_told(f"looking for the deployment '{name}'"):
            found = oci.pagination.list_call_get_all_results(
                self._client.list_model_deployments,
                self._session.compartment_id,
                display_name=name,
            ).data
        standing = [each for each in found if each.lifecycle_state not in _GONE]
        return max(standing, key=lambda each: each.time_created, default=None)

    def get(self, name: str) -> Any | None:
        """The newest deployment of this name that is not deleted, in full, if any."""
        found = self.find(name)
        if found is None:
            return None
        with cloud_errors_told(f"reading the deployment '{name}'"):
            return self._client.get_model_deployment(found.id).data

    def bring_about(self, wanted: Wanted, report: Report) -> Any:
        """Makes or changes the deployment until it is ACTIVE and as wanted.

        A running operation is waited for first; a failed deployment is deleted and made anew.

        Raises:
            CloudError: the cloud refused or failed; what was serving before still is.
        """
        name = wanted.settings.name
        standing = self.settled(name, wanted.settings, report)
        if standing is not None and standing.lifecycle_state == "FAILED":
            self.delete(standing, wanted.settings, report)
            standing = None
        if standing is None:
            self._create(wanted, report)
        else:
            self._update(standing, wanted, report)
        active = self.get(name)
        if active is None or active.lifecycle_state != "ACTIVE":
            state = active.lifecycle_state if active else "gone"
            details = (active.lifecycle_details if active else "") or "no details given"
            raise CloudError(f"the deployment is {state}: {details}", where=name)
        return active

    def settled(self, name: str, settings: DeploymentSettings, report: Report) -> Any | None:
        """The deployment once no operation is running on it."""
        standing = self.get(name)
        if standing is None or standing.lifecycle_state not in _MOVING:
            return standing
        with cloud_errors_told("looking for the running operation"):
            requests = self._client.list_work_requests(
                self._session.compartment_id, resource_id=standing.id
            ).data
        for request in requests:
            if request.status in {"ACCEPTED", "IN_PROGRESS"}:
                self._wait(request.id, "operation begun before", settings, report)
        return self.get(name)

    def delete(self, deployment: Any, settings: DeploymentSettings, report: Report) -> None:
        """Deletes a deployment and waits until it is gone.

        Raises:
            CloudError: the cloud refused or failed.
        """
        with cloud_errors_told("deleting the deployment"):
            response = self._client.delete_model_deployment(deployment.id)
        self._wait(_work_request(response), "deletion of the deployment", settings, report)

    def _create(self, wanted: Wanted, report: Report) -> None:
        details = oci_models.CreateModelDeploymentDetails(
            display_name=wanted.settings.name,
            project_id=wanted.project_id,
            compartment_id=self._session.compartment_id,
            model_deployment_configuration_details=_configuration(wanted),
            category_log_details=_logs(wanted),
            freeform_tags=dict(wanted.tags),
        )
        with cloud_errors_told("creating the deployment"):
            response = self._client.create_model_deployment(details)
        operation = "creation of the deployment"
        self._wait(_work_request(response), operation, wanted.settings, report)

    def _update(self, standing: Any, wanted: Wanted, report: Report) -> None:
        """Changes one option group at a time, as OCI demands of an ACTIVE deployment.

        The tags come last, so that they never claim what has not been reached.
        """
        for details in _changes(standing, wanted):
            with cloud_errors_told("updating the deployment"):
                response = self._client.update_model_deployment(standing.id, details)
            self._wait(_work_request(response), "update", wanted.settings, report)
        if standing.lifecycle_state == "INACTIVE":
            with cloud_errors_told("activating the deployment"):
                response = self._client.activate_model_deployment(standing.id)
            self._wait(_work_request(response), "activation", wanted.settings, report)

    def _wait(
        self, work_request_id: str, operation: str, settings: DeploymentSettings, report: Report
    ) -> None:
        wait_for(self._client, work_request_id, operation, settings.timeout_minutes * 60, report)


def environment(serving: ServingSettings) -> dict[str, str]:
    """The variables that map OCI's `/predict` and health probe to Triton's routes.

    `CONTAINER_TYPE=TRITON` maps to `/infer` alone; the other two are those of Oracle's sample for
    TensorRT-LLM images (oci-data-science-ai-samples, Triton_TensorRT).
    """
    if serving.route == "infer":
        return {"CONTAINER_TYPE": "TRITON"}
    return {
        "MODEL_DEPLOY_PREDICT_ENDPOINT": "/v2/models/ensemble/versions/1/generate",
        "MODEL_DEPLOY_HEALTH_ENDPOINT": "/v2/health/ready",
    }


def route_of(deployment: Any) -> Literal["generate", "infer"]:
    """What a standing deployment maps `/predict` to, whatever the profile says by now."""
    details = deployment.model_deployment_configuration_details
    variables = details.environment_configuration_details.environment_variables or {}
    return "infer" if variables.get("CONTAINER_TYPE") == "TRITON" else "generate"


def command(serving: ServingSettings) -> list[str]:
    """What the container runs; 8000 is Triton's own default and needs no word."""
    words = ["tritonserver", f"--model-repository={MODEL_REPOSITORY}"]
    if serving.port != _DEFAULT_TRITON_PORT:
        words.append(f"--http-port={serving.port}")
    return words


def _changes(standing: Any, wanted: Wanted) -> list[Any]:
    """One update an option group that differs, and one for the tags at the end.

    The groups are OCI's: container, variables, model (Oracle, "Editing Model Deployments"). Between
    two updates the new model meets the old route or the other way round: `/generate` answers for
    models of both kinds, `/infer` only for those that are not decoupled.
    """
    groups = [*_environment_changes(standing, wanted), *_model_changes(standing, wanted)]
    if wanted.serving.route == "infer":
        groups.reverse()
    updates = [
        oci_models.UpdateModelDeploymentDetails(
            model_deployment_configuration_details=(
                oci_models.UpdateSingleModelDeploymentConfigurationDetails(**group)
            )
        )
        for group in groups
    ]
    if (standing.freeform_tags or {}) != dict(wanted.tags):
        updates.append(oci_models.UpdateModelDeploymentDetails(freeform_tags=dict(wanted.tags)))
    return updates


def _environment_changes(standing: Any, wanted: Wanted) -> Iterator[dict[str, Any]]:
    """First the container's own options, then its variables."""
    now = standing.model_deployment_configuration_details.environment_configuration_details
    new = _environment_configuration(wanted)
    values = {name: getattr(now, name) for name in (*_CONTAINER_OPTIONS, _VARIABLES)}
    for names in (_CONTAINER_OPTIONS, (_VARIABLES,)):
        change = {name: getattr(new, name) for name in names}
        if any(values[name] != change[name] for name in names):
            values |= change
            details = oci_models.UpdateOcirModelDeploymentEnvironmentConfigurationDetails(**values)
            yield {"environment_configuration_details": details}


def _model_changes(standing: Any, wanted: Wanted) -> Iterator[dict[str, Any]]:
    """The change of model or shape, if there is one.

    Raises:
        CloudError: bandwidth or instance count differ, which OCI changes only while a deployment
            is inactive (oci SDK 2.189.0, `UpdateModelDeploymentDetails`).
    """
    now = standing.model_deployment_configuration_details.model_configuration_details
    new = _model_configuration(wanted)
    if (now.bandwidth_mbps, now.scaling_policy.instance_count) != (
        new.bandwidth_mbps,
        new.scaling_policy.instance_count,
    ):
        raise CloudError(
            "OCI changes bandwidth and instance count only of an inactive deployment",
            where=wanted.settings.name,
            remedy="run make down and then make deploy",
        )
    if now.model_id == new.model_id and _shape(now) == _shape(new):
        return
    details = oci_models.UpdateModelConfigurationDetails(
        model_id=new.model_id,
        bandwidth_mbps=new.bandwidth_mbps,
        instance_configuration=new.instance_configuration,
        scaling_policy=new.scaling_policy,
    )
    yield {"model_configuration_details": details}


def _shape(model_configuration: Any) -> tuple[str, float | None, float | None]:
    instance = model_configuration.instance_configuration
    flexible = instance.model_deployment_instance_shape_config_details
    if flexible is None:
        return instance.instance_shape_name, None, None
    return instance.instance_shape_name, flexible.ocpus, flexible.memory_in_gbs


def _configuration(wanted: Wanted) -> Any:
    return oci_models.SingleModelDeploymentConfigurationDetails(
        model_configuration_details=_model_configuration(wanted),
        environment_configuration_details=_environment_configuration(wanted),
    )


def _model_configuration(wanted: Wanted) -> Any:
    settings = wanted.settings
    flexible = None
    if settings.ocpus is not None:
        flexible = oci_models.ModelDeploymentInstanceShapeConfigDetails(
            ocpus=settings.ocpus, memory_in_gbs=settings.memory_gib
        )
    return oci_models.ModelConfigurationDetails(
        model_id=wanted.model_id,
        bandwidth_mbps=settings.bandwidth_mbps,
        instance_configuration=oci_models.InstanceConfiguration(
            instance_shape_name=settings.shape,
            model_deployment_instance_shape_config_details=flexible,
        ),
        scaling_policy=oci_models.FixedSizeScalingPolicy(instance_count=settings.instances),
    )


def _environment_configuration(wanted: Wanted) -> Any:
    return oci_models.OcirModelDeploymentEnvironmentConfigurationDetails(
        image=wanted.image.reference,
        # The cloud then runs these very bytes, whatever the tag means by then. A process image
        # comes from no registry and has no digest there.
        image_digest=wanted.image.digest if wanted.image.kind == "container" else None,
        cmd=command(wanted.serving),
        server_port=wanted.serving.port,
        health_check_port=wanted.serving.port,
        environment_variables=environment(wanted.serving),
    )


def _logs(wanted: Wanted) -> Any:
    log = oci_models.LogDetails(log_id=wanted.log.log_id, log_group_id=wanted.log.group_id)
    return oci_models.CategoryLogDetails(access=log, predict=log)


def _work_request(response: Any) -> str:
    return str(response.headers["opc-work-request-id"])
