"""What a user of oracle-ads does, from a model's files to an answer. Run by test_ads.py.

It runs in a virtual environment of its own, on what oracle_requirements.lock pins. Nothing of ADS
is changed; the cloud's address comes from OCI_ODSC_SERVICE_ENDPOINT. The arguments are one JSON
object; the last line of the output is another.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import ads
from ads.jobs import ContainerRuntime, DataScienceJob, Job
from ads.model.datascience_model import DataScienceModel
from ads.model.deployment import (
    ModelDeployment,
    ModelDeploymentContainerRuntime,
    ModelDeploymentInfrastructure,
)
from ads.model.generic_model import GenericModel
from ads.model.model_metadata import ModelCustomMetadata
from ads.model.model_version_set import ModelVersionSet
from ads.model.service.oci_datascience_model import ModelWithActiveDeploymentError
from ocifs import OCIFileSystem

# Its users wait for ten. Every look reads the private key anew, a tenth of a second's work.
POLL_SECONDS = 3.0


def main() -> None:
    """Create, deploy, watch, predict, read the logs, and take everything down again.

    With `further`, what else users call as well.
    """
    given = json.loads(sys.argv[1])
    ads.set_auth("api_key", oci_config_location=given["config"])
    model = _model(given)
    deployment = _deployment(given, model.id)
    deployment.deploy(poll_interval=POLL_SECONDS)
    told: dict[str, Any] = {
        "model": model.id,
        "deployment": deployment.model_deployment_id,
        "state": deployment.state.name,
        "listed": list(ModelDeployment.list_df(compartment_id=given["compartment"]).iloc[:, 0]),
        "answer": deployment.predict(data={"prompt": "hello"}),
    }
    # The Logging service's address has no variable of its own.
    endpoint = os.environ["OCI_ODSC_SERVICE_ENDPOINT"]
    ads.set_auth(
        "api_key",
        oci_config_location=given["config"],
        client_kwargs={"service_endpoint": endpoint},
    )
    deployment.logs("access").tail(source=deployment.model_deployment_id)  # it prints them
    if given["further"]:
        told["failure"] = _failure(given, model.id)
        told["worked"] = _other_calls(given, deployment)
        told["deactivated"] = deployment.deactivate(poll_interval=POLL_SECONDS).state.name
        told["activated"] = deployment.activate(poll_interval=POLL_SECONDS).state.name
    _delete(model, deployment, told)
    if given["further"]:
        _delete_together(given, told)
    print(json.dumps(told))


def _other_calls(given: dict[str, Any], deployment: ModelDeployment) -> dict[str, Any]:
    """Tries what else users call, and tells what each call gave."""
    compartment, project = given["compartment"], given["project"]
    kinds = ModelCustomMetadata()
    kinds.add(key="made by", value="ads", category="Other", description="for a test")
    model = _model(given)
    described = model.with_custom_metadata_list(kinds).update(display_name="renamed")
    described.download_artifact("downloaded", force_overwrite=True)
    versions = ModelVersionSet().with_compartment_id(compartment).with_project_id(project)
    versions.with_name(f"ads-{time.time_ns()}").create()
    job = (
        Job(name="of ads")
        .with_infrastructure(
            DataScienceJob()
            .with_compartment_id(compartment)
            .with_project_id(project)
            .with_shape_name("VM.Standard.E4.Flex")
            .with_shape_config_details(ocpus=1, memory_in_gbs=16)
            .with_block_storage_size(50)
        )
        .with_runtime(ContainerRuntime().with_image(given["image"]).with_cmd("ls"))
        .create()
    )
    found = {
        "model from_id": DataScienceModel.from_id(model.id).display_name,
        "model": model.id,
        "models": [each.id for each in DataScienceModel.list(compartment)],
        "models as a table": len(DataScienceModel.list_df(compartment)),
        "downloaded": sorted(os.listdir("downloaded")),
        "version set from_id": ModelVersionSet.from_id(versions.id).name == versions.name,
        "version sets": versions.id in [each.id for each in ModelVersionSet.list(compartment)],
        "deployments": [each.id for each in ModelDeployment.list(compartment_id=compartment)],
        "job": job.id,
        # Where ADS would send a large artifact: the address that ocifs makes of the region's name.
        "bucket": OCIFileSystem(config=given["config"]).oci_client.base_client.endpoint,
    }
    job.delete()
    versions.delete()
    deployment.with_display_name("updated").update(poll_interval=POLL_SECONDS)
    found["deployment"] = deployment.sync().display_name
    return found


def _model(given: dict[str, Any]) -> Any:
    return (
        DataScienceModel()
        .with_compartment_id(given["compartment"])
        .with_project_id(given["project"])
        .with_display_name("of ads")
        .with_description("made by oracle-ads")
        .with_freeform_tags(made_by="ads")
        .with_artifact(given["artifact"])
        .create()
    )


def _delete(model: Any, deployment: ModelDeployment, told: dict[str, Any]) -> None:
    """Deletes a deployment as a GenericModel has it, and its model."""
    try:
        model.delete()
    except ModelWithActiveDeploymentError:
        told["in_use"] = model.sync().status
    attached = GenericModel(artifact_dir="unused")
    attached.model_deployment = deployment
    attached.delete_deployment(wait_for_completion=False)  # which would look every 10 seconds
    while deployment.sync().state.name != "DELETED":
        time.sleep(POLL_SECONDS)


def _delete_together(given: dict[str, Any], told: dict[str, Any]) -> None:
    """Deletes a model alone, and one with its deployment."""
    told["deleted_model"] = _model(given).delete().status
    other = _model(given)
    second = _deployment(given, other.id).deploy(poll_interval=POLL_SECONDS)
    GenericModel.delete(model_id=other.id, delete_associated_model_deployment=True)
    told["deleted_together"] = [second.sync().state.name, other.sync().status]


def _deployment(given: dict[str, Any], model: str, **variables: str) -> Any:
    log = {"log_group_id": given["log_group"], "log_id": given["log"]}
    infrastructure = (
        ModelDeploymentInfrastructure()
        .with_compartment_id(given["compartment"])
        .with_project_id(given["project"])
        .with_shape_name("VM.Standard.E4.Flex")
        .with_shape_config_details(ocpus=1, memory_in_gbs=16)
        .with_replica(1)
        .with_bandwidth_mbps(10)
        .with_access_log(**log)
        .with_predict_log(**log)
    )
    runtime = (
        ModelDeploymentContainerRuntime()
        .with_image(given["image"])
        .with_cmd(["serve", "8000"])
        .with_server_port(8000)
        .with_health_check_port(8000)
        .with_env(variables)
        .with_model_uri(model)
    )
    return (
        ModelDeployment()
        .with_display_name("of ads")
        .with_infrastructure(infrastructure)
        .with_runtime(runtime)
    )


def _failure(given: dict[str, Any], model: str) -> dict[str, str]:
    """What ADS makes of a deployment whose container ends at once."""
    deployment = _deployment(given, model, EXIT_EARLY="3")
    deployment.deploy(poll_interval=POLL_SECONDS)
    told = {"state": deployment.state.name, "details": deployment.sync().lifecycle_details}
    deployment.delete(poll_interval=POLL_SECONDS)
    return told


if __name__ == "__main__":
    main()
