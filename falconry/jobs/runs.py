"""Jobs and job runs of engine builds: found by their tags, begun once, removed afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import oci
from oci.data_science import DataScienceClient
from oci.data_science import models as oci_models

from falconry.cloud.retries import all_records, create_idempotent
from falconry.cloud.session import Session, ignore_statuses, translate_cloud_errors
from falconry.deployment.logs import LogIds
from falconry.deployment.target import ENGINE_TAG
from falconry.digests import value_digest

REQUEST_TAG = "falconry-request"
"""The digest of the request that it builds by."""

ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "DELETED"})
"""The states of a run that do not change any more (ADS, jobs)."""

_ALIVE = "ACTIVE"
_GONE = frozenset({"DELETED", "DELETING", "FAILED"})
# A job that is still being created has no runs; how long that takes is not documented.
_LOOKS_AT_NEW_JOB = 60


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job in the profile's terms.

    Attributes:
        request: digest of the request.
        image: its reference in OCIR.
        image_digest: `sha256:...`, where it is known.
        variables: of the container; no secrets.
        storage_gb: of its block storage.
        subnet_id: a network of the user's; None for Oracle's.
    """

    key: str
    request: str
    project_id: str
    image: str
    image_digest: str | None
    command: tuple[str, ...]
    variables: Mapping[str, str]
    shape: str
    storage_gb: int
    subnet_id: str | None
    timeout_minutes: int
    log: LogIds

    @property
    def tags(self) -> dict[str, str]:
        """The freeform tags of job and run."""
        return {ENGINE_TAG: self.key, REQUEST_TAG: self.request}


def name_of(key: str) -> str:
    """The display name of an engine's job and runs."""
    return f"falconry-engine-{key[:12]}"


class BuildJobs:
    """The build jobs of a compartment."""

    def __init__(self, session: Session) -> None:
        self._client: Any = session.client(DataScienceClient)
        self._compartment = session.compartment_id

    def running(self, key: str, request: str | None = None) -> list[Any]:
        """The runs for an engine that have not ended, newest first; of one request or all."""
        found = [run for run in self._runs(key) if run.lifecycle_state not in ENDED]
        return [
            run for run in found if request in (None, (run.freeform_tags or {}).get(REQUEST_TAG))
        ]

    def get(self, run_id: str) -> Any | None:
        """A run as it is now; None when it is gone."""
        with translate_cloud_errors("following the job run"), ignore_statuses(404):
            return self._client.get_job_run(run_id).data
        return None

    def start(self, spec: JobSpec) -> Any:
        """Begins a run, or joins what another machine began just now."""
        job = self._job(spec)
        with translate_cloud_errors("beginning the job run"):
            earlier = all_records(
                self._client.list_job_runs, self._compartment, job_id=job.id, sort_order="ASC"
            )
        running = [run for run in earlier if run.lifecycle_state not in ENDED]
        return running[0] if running else self._begin(spec, job, len(earlier))

    def cancel(self, run_id: str) -> None:
        """Cancels a run."""
        with translate_cloud_errors("cancelling the job run"), ignore_statuses(404):
            self._client.cancel_job_run(run_id)

    def remove(self, key: str) -> None:
        """Deletes an engine's jobs with their runs, but those that have not ended."""
        with translate_cloud_errors("removing the job"):
            for job in self._jobs(key):
                with ignore_statuses(404, 409):  # gone, or it has a run of another machine
                    self._client.delete_job(job.id, delete_related_job_runs=True)

    def _job(self, spec: JobSpec) -> Any:
        details = _job_details(spec, self._compartment)
        identity = value_digest(oci.util.to_dict(details))

        def create(token: str) -> Any:
            return self._client.create_job(details, opc_retry_token=token).data

        def exists(job: Any) -> bool:
            return self._client.get_job(job.id).data.lifecycle_state not in _GONE

        with translate_cloud_errors("creating the job"):
            job = create_idempotent(
                ("job", self._compartment, identity), create, exists, lambda: None
            )
            for _ in range(_LOOKS_AT_NEW_JOB):
                if self._client.get_job(job.id).data.lifecycle_state == _ALIVE:
                    break
                time.sleep(1.0)
            return job

    def _begin(self, spec: JobSpec, job: Any, number: int) -> Any:
        details = oci_models.CreateJobRunDetails(
            project_id=spec.project_id,
            compartment_id=self._compartment,
            job_id=job.id,
            display_name=name_of(spec.key),
            freeform_tags=spec.tags,
        )

        def create(token: str) -> Any:
            return self._client.create_job_run(details, opc_retry_token=token).data

        def exists(run: Any) -> bool:
            return True  # a deleted run is found out by following it

        with translate_cloud_errors("beginning the job run"):
            return create_idempotent(
                ("job run", str(job.id), str(number)), create, exists, lambda: None
            )

    def _runs(self, key: str) -> Iterator[Any]:
        with translate_cloud_errors("looking for job runs"):
            found = all_records(
                self._client.list_job_runs,
                self._compartment,
                display_name=name_of(key),
                sort_by="timeCreated",
                sort_order="DESC",
            )
        return (run for run in found if (run.freeform_tags or {}).get(ENGINE_TAG) == key)

    def _jobs(self, key: str) -> Iterator[Any]:
        found = all_records(self._client.list_jobs, self._compartment, display_name=name_of(key))
        return (
            job
            for job in found
            if (job.freeform_tags or {}).get(ENGINE_TAG) == key and job.lifecycle_state == _ALIVE
        )


def _job_details(spec: JobSpec, compartment: str) -> Any:
    machine: dict[str, Any] = {
        "shape_name": spec.shape,
        "block_storage_size_in_gbs": spec.storage_gb,
    }
    models = oci_models
    network = (
        models.StandaloneJobInfrastructureConfigurationDetails(**machine, subnet_id=spec.subnet_id)
        if spec.subnet_id
        else models.ManagedEgressStandaloneJobInfrastructureConfigurationDetails(**machine)
    )
    return models.CreateJobDetails(
        project_id=spec.project_id,
        compartment_id=compartment,
        display_name=name_of(spec.key),
        description="Builds a TensorRT-LLM engine, for Falconry",
        job_configuration_details=models.DefaultJobConfigurationDetails(
            environment_variables=dict(spec.variables),
            maximum_runtime_in_minutes=spec.timeout_minutes,
        ),
        job_infrastructure_configuration_details=network,
        job_environment_configuration_details=(
            models.OcirContainerJobEnvironmentConfigurationDetails(
                image=spec.image, image_digest=spec.image_digest, cmd=list(spec.command)
            )
        ),
        job_log_configuration_details=models.JobLogConfigurationDetails(
            enable_logging=True,
            enable_auto_log_creation=False,
            log_group_id=spec.log.group_id,
            log_id=spec.log.log_id,
        ),
        freeform_tags=spec.tags,
    )
