"""Jobs and their runs as they travel and as they are stored (oci 2.189.0, data_science.models)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from local_oci.services.deployments.models import LogReference
from local_oci.storage.records import (
    FreeformTags,
    Int32,
    NamedResource,
    Resource,
    Tagged,
    WireModel,
    now,
)

JOB_TYPE = "datasciencejob"
RUN_TYPE = "datasciencejobrun"


class JobState(StrEnum):
    """Values of Job.lifecycleState that this cloud uses."""

    ACTIVE = "ACTIVE"
    DELETED = "DELETED"


class RunState(StrEnum):
    """Values of JobRun.lifecycleState that this cloud uses."""

    ACCEPTED = "ACCEPTED"
    IN_PROGRESS = "IN_PROGRESS"
    CANCELING = "CANCELING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    DELETED = "DELETED"


UNFINISHED = frozenset({RunState.ACCEPTED, RunState.IN_PROGRESS, RunState.CANCELING})


class JobConfiguration(WireModel):
    """DefaultJobConfigurationDetails: variables, arguments and the longest time."""

    job_type: Literal["DEFAULT"] = "DEFAULT"
    environment_variables: dict[str, str] = Field(default_factory=dict)
    command_line_arguments: str | None = None
    maximum_runtime_in_minutes: Annotated[Int32, Field(ge=1)] | None = None


class ShapeSize(WireModel):
    """JobShapeConfigDetails: size of a flexible shape."""

    ocpus: float | None = None
    memory_in_gbs: float | None = Field(default=None, alias="memoryInGBs")
    cpu_baseline: str | None = None


class Infrastructure(WireModel):
    """Where runs have their machine: in Oracle's network (ME_STANDALONE) or in a subnet."""

    job_infrastructure_type: Literal["ME_STANDALONE", "STANDALONE"]
    shape_name: str
    block_storage_size_in_gbs: Int32 = Field(alias="blockStorageSizeInGBs")
    subnet_id: str | None = None
    job_shape_config_details: ShapeSize | None = None
    capacity_reservation_id: str | None = None


class JobContainer(WireModel):
    """OcirContainerJobEnvironmentConfigurationDetails: what runs."""

    job_environment_type: Literal["OCIR_CONTAINER"]
    image: str
    image_digest: str | None = None
    image_signature_id: str | None = None
    cmd: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None


class LogConfiguration(WireModel):
    """JobLogConfigurationDetails: where what a run writes goes to."""

    enable_logging: bool = False
    enable_auto_log_creation: bool = False
    log_group_id: str | None = None
    log_id: str | None = None


class CreateJobDetails(Tagged):
    """Body of create_job."""

    compartment_id: str
    project_id: str
    display_name: str | None = None
    description: str | None = None
    job_configuration_details: JobConfiguration
    job_infrastructure_configuration_details: Infrastructure
    job_environment_configuration_details: JobContainer
    job_log_configuration_details: LogConfiguration | None = None


class UpdateDetails(WireModel):
    """Body of update_job and update_job_run; a field that is absent stays as it is."""

    display_name: str | None = None
    description: str | None = None
    freeform_tags: FreeformTags | None = None
    defined_tags: dict[str, dict[str, Any]] | None = None


class Job(NamedResource):
    """A job: what its runs have in common."""

    project_id: str
    job_configuration_details: JobConfiguration
    job_infrastructure_configuration_details: Infrastructure
    job_environment_configuration_details: JobContainer
    job_log_configuration_details: LogConfiguration | None = None
    lifecycle_state: JobState = JobState.ACTIVE
    lifecycle_details: str | None = None


class CreateRunDetails(Tagged):
    """Body of create_job_run."""

    compartment_id: str
    project_id: str
    job_id: str
    display_name: str | None = None
    job_configuration_override_details: JobConfiguration | None = None
    job_log_configuration_override_details: LogConfiguration | None = None
    job_environment_configuration_override_details: JobContainer | None = None


class JobRun(Resource, Tagged):
    """A run of a job.

    Args:
        configuration: the job's configuration with the run's own laid over it.
        container: what runs, the job's or the run's own.
    """

    INTERNAL: ClassVar[frozenset[str]] = frozenset({"etag", "configuration", "container"})

    display_name: str
    created_by: str
    project_id: str
    job_id: str
    time_accepted: datetime = Field(default_factory=now)
    time_started: datetime | None = None
    time_finished: datetime | None = None
    job_configuration_override_details: JobConfiguration | None = None
    job_infrastructure_configuration_details: Infrastructure
    job_environment_configuration_override_details: JobContainer | None = None
    job_log_configuration_override_details: LogConfiguration | None = None
    log_details: LogReference | None = None
    lifecycle_state: RunState = RunState.ACCEPTED
    lifecycle_details: str | None = None
    configuration: JobConfiguration
    container: JobContainer

    @property
    def ended(self) -> bool:
        """Whether its state does not change any more."""
        return self.lifecycle_state not in UNFINISHED
