"""What clients ask of jobs and their runs: checked and recorded."""

from __future__ import annotations

from local_oci.http.errors import (
    conflict,
    incorrect_state,
    invalid_parameter,
    not_emulated,
    related_resource_not_found,
)
from local_oci.limits import (
    COMMAND_BYTES,
    JOB_ARGUMENT_CHARACTERS,
    JOB_ENVIRONMENT_CHARACTERS,
    MIN_BLOCK_STORAGE_GB,
)
from local_oci.services.cloud import Cloud
from local_oci.services.deployments.models import LogReference
from local_oci.services.deployments.rules import all_shapes
from local_oci.services.jobs.models import (
    JOB_TYPE,
    RUN_TYPE,
    CreateJobDetails,
    CreateRunDetails,
    Infrastructure,
    Job,
    JobConfiguration,
    JobContainer,
    JobRun,
    JobState,
    LogConfiguration,
    RunState,
)
from local_oci.storage.records import new_ocid, now


def create_job(cloud: Cloud, details: CreateJobDetails) -> Job:
    """Record a job; nothing runs yet."""
    cloud.catalog.check_project(details.project_id)
    _check_infrastructure(details.job_infrastructure_configuration_details)
    _check_configuration(details.job_configuration_details)
    _check_container(details.job_environment_configuration_details)
    _check_log(cloud, details.job_log_configuration_details)
    return cloud.jobs.jobs.put(
        Job(
            **details.model_dump(exclude={"display_name"}),
            id=new_ocid(JOB_TYPE),
            display_name=details.display_name or f"job{now():%Y%m%d%H%M%S}",
            created_by=cloud.identity.user,
        )
    )


def delete_job(cloud: Cloud, job: Job, *, with_runs: bool) -> None:
    """Delete a job, and its runs where that is wanted.

    Raises:
        ServiceError: 409, it has runs that have not ended, or that are to stay.
    """
    runs = [run for run in cloud.jobs.runs_of(job.id) if run.lifecycle_state != RunState.DELETED]
    if any(not run.ended for run in runs):
        raise incorrect_state("The job has runs that have not ended; cancel them first.")
    if runs and not with_runs:
        raise conflict("The job has runs; delete them, or set deleteRelatedJobRuns.")
    for run in runs:
        cloud.jobs.runs.change(run, lifecycle_state=RunState.DELETED)
    cloud.jobs.jobs.change(job, lifecycle_state=JobState.DELETED)


def create_run(cloud: Cloud, details: CreateRunDetails) -> JobRun:
    """Begin a run of a job."""
    job = cloud.jobs.jobs.get(details.job_id)
    if job is None or job.lifecycle_state is not JobState.ACTIVE:
        raise related_resource_not_found(f"job {details.job_id}")
    override = details.job_configuration_override_details
    configuration = job.job_configuration_details
    if override is not None:
        _check_configuration(override)
        configuration = _laid_over(configuration, override)
    container = (
        details.job_environment_configuration_override_details
        or job.job_environment_configuration_details
    )
    _check_container(container)
    log = details.job_log_configuration_override_details or job.job_log_configuration_details
    _check_log(cloud, log)
    run = cloud.jobs.runs.put(
        JobRun(
            **details.model_dump(exclude={"display_name"}),
            id=new_ocid(RUN_TYPE),
            display_name=details.display_name or f"jobrun{now():%Y%m%d%H%M%S}",
            created_by=cloud.identity.user,
            job_infrastructure_configuration_details=job.job_infrastructure_configuration_details,
            log_details=_reference(log),
            configuration=configuration,
            container=container,
        )
    )
    cloud.jobs.begin(run)
    return run


def cancel_run(cloud: Cloud, run: JobRun) -> None:
    """Begin to stop a run."""
    if run.lifecycle_state not in (RunState.ACCEPTED, RunState.IN_PROGRESS):
        raise conflict(f"The job run is {run.lifecycle_state}; it cannot be cancelled.")
    cloud.jobs.cancel(run)


def delete_run(cloud: Cloud, run: JobRun) -> None:
    """Delete a run that has ended."""
    if not run.ended:
        raise incorrect_state(f"The job run is {run.lifecycle_state}; cancel it first.")
    cloud.jobs.runs.change(run, lifecycle_state=RunState.DELETED)


def _laid_over(configuration: JobConfiguration, override: JobConfiguration) -> JobConfiguration:
    """A run's variables are added to the job's; the rest replaces the job's."""
    given = override.model_dump(exclude={"environment_variables"}, exclude_none=True)
    variables = configuration.environment_variables | override.environment_variables
    return configuration.model_copy(update={**given, "environment_variables": variables})


def _check_infrastructure(infrastructure: Infrastructure) -> None:
    if infrastructure.shape_name not in all_shapes():
        raise invalid_parameter(
            f"shapeName: '{infrastructure.shape_name}' is not a supported shape."
        )
    if infrastructure.block_storage_size_in_gbs < MIN_BLOCK_STORAGE_GB:
        raise invalid_parameter(f"blockStorageSizeInGBs: at least {MIN_BLOCK_STORAGE_GB}.")
    if infrastructure.job_infrastructure_type == "STANDALONE" and not infrastructure.subnet_id:
        raise invalid_parameter("subnetId: a STANDALONE job needs one.")


def _check_configuration(configuration: JobConfiguration) -> None:
    variables = configuration.environment_variables
    if sum(map(len, (*variables, *variables.values()))) > JOB_ENVIRONMENT_CHARACTERS:
        raise invalid_parameter(
            f"environmentVariables: more than {JOB_ENVIRONMENT_CHARACTERS} characters in all."
        )
    if len(configuration.command_line_arguments or "") > JOB_ARGUMENT_CHARACTERS:
        raise invalid_parameter(
            f"commandLineArguments: more than {JOB_ARGUMENT_CHARACTERS} characters."
        )


def _check_container(container: JobContainer) -> None:
    words = (*(container.entrypoint or ()), *(container.cmd or ()))
    if sum(len(word.encode()) for word in words) >= COMMAND_BYTES:
        raise invalid_parameter(f"cmd and entrypoint: {COMMAND_BYTES} bytes or more in all.")


def _check_log(cloud: Cloud, log: LogConfiguration | None) -> None:
    if log is None or not log.enable_logging:
        return
    if log.enable_auto_log_creation:
        raise not_emulated("enableAutoLogCreation")
    found = cloud.logs.logs.get(log.log_id or "")
    if found is None or found.log_group_id != log.log_group_id:
        raise related_resource_not_found(f"log {log.log_id}")


def _reference(log: LogConfiguration | None) -> LogReference | None:
    if log is None or not log.enable_logging or not log.log_id or not log.log_group_id:
        return None
    return LogReference(log_id=log.log_id, log_group_id=log.log_group_id)
