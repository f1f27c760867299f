"""HTTP of jobs and job runs, under the Data Science base path."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_oci.http.errors import not_found
from local_oci.http.messages import (
    check_if_match,
    empty_response,
    given_fields,
    parse_details,
    read_details,
    record_response,
    required_query,
)
from local_oci.http.pages import list_response, page_response
from local_oci.http.retry_tokens import once
from local_oci.services.cloud import cloud_of
from local_oci.services.deployments.rules import all_shapes
from local_oci.services.jobs import commands
from local_oci.services.jobs.models import (
    CreateJobDetails,
    CreateRunDetails,
    Job,
    JobRun,
    RunState,
    UpdateDetails,
)


@once
def create_job(request: Request, body: bytes) -> Response:
    """Record a job."""
    job = commands.create_job(cloud_of(request), parse_details(CreateJobDetails, body))
    return record_response(job)


async def get_job(request: Request) -> Response:
    """One job, also a deleted one."""
    job = cloud_of(request).jobs.jobs.get(request.path_params["job_id"])
    if job is None:
        raise not_found()
    return record_response(job)


async def list_jobs(request: Request) -> Response:
    """Jobs of a compartment."""
    required_query(request, "compartmentId")
    return list_response(
        request,
        cloud_of(request).jobs.jobs.scan(),
        filters={
            "compartmentId": lambda job: job.compartment_id,
            "projectId": lambda job: job.project_id,
            "id": lambda job: job.id,
            "displayName": lambda job: job.display_name,
            "lifecycleState": lambda job: job.lifecycle_state,
            "createdBy": lambda job: job.created_by,
        },
        sort_fields={
            "timeCreated": lambda job: job.time_created.isoformat(),
            "displayName": lambda job: job.display_name,
        },
    )


async def update_job(request: Request) -> Response:
    """Name, description and tags; a job's configuration stays as it is [inferred]."""
    job = _job(request)
    check_if_match(request, job)
    fields = given_fields(await read_details(request, UpdateDetails))
    return record_response(cloud_of(request).jobs.jobs.change(job, **fields))


async def delete_job(request: Request) -> Response:
    """Delete a job, with `deleteRelatedJobRuns=true` its runs as well."""
    job = _job(request)
    check_if_match(request, job)
    with_runs = request.query_params.get("deleteRelatedJobRuns", "false").lower() == "true"
    commands.delete_job(cloud_of(request), job, with_runs=with_runs)
    return empty_response()


@once
def create_job_run(request: Request, body: bytes) -> Response:
    """Begin a run."""
    run = commands.create_run(cloud_of(request), parse_details(CreateRunDetails, body))
    return record_response(run)


async def get_job_run(request: Request) -> Response:
    """One run, also a deleted one."""
    run = cloud_of(request).jobs.runs.get(request.path_params["run_id"])
    if run is None:
        raise not_found()
    return record_response(run)


async def list_job_runs(request: Request) -> Response:
    """Runs of a compartment."""
    required_query(request, "compartmentId")
    return list_response(
        request,
        cloud_of(request).jobs.runs.scan(),
        filters={
            "compartmentId": lambda run: run.compartment_id,
            "id": lambda run: run.id,
            "jobId": lambda run: run.job_id,
            "displayName": lambda run: run.display_name,
            "lifecycleState": lambda run: run.lifecycle_state,
            "createdBy": lambda run: run.created_by,
        },
        sort_fields={
            "timeCreated": lambda run: run.time_accepted.isoformat(),
            "displayName": lambda run: run.display_name,
        },
    )


async def update_job_run(request: Request) -> Response:
    """Name and tags."""
    run = _run(request)
    check_if_match(request, run)
    fields = given_fields(await read_details(request, UpdateDetails))
    fields.pop("description", None)
    return record_response(cloud_of(request).jobs.runs.change(run, **fields))


async def cancel_job_run(request: Request) -> Response:
    """Begin to stop a run."""
    run = _run(request)
    check_if_match(request, run)
    commands.cancel_run(cloud_of(request), run)
    return empty_response()


async def delete_job_run(request: Request) -> Response:
    """Delete a run that has ended."""
    run = _run(request)
    check_if_match(request, run)
    commands.delete_run(cloud_of(request), run)
    return empty_response()


async def list_job_shapes(request: Request) -> Response:
    """All shapes, by name; that jobs have those of deployments is [inferred]."""
    required_query(request, "compartmentId")
    shapes = sorted(all_shapes().values(), key=lambda shape: shape.name)
    return page_response(request, shapes, key=lambda shape: (shape.name, ""))


def _job(request: Request) -> Job:
    job = cloud_of(request).jobs.live_job(request.path_params["job_id"])
    if job is None:
        raise not_found()
    return job


def _run(request: Request) -> JobRun:
    run = cloud_of(request).jobs.runs.get(request.path_params["run_id"])
    if run is None or run.lifecycle_state is RunState.DELETED:
        raise not_found()
    return run


_JOB = "/20190101/jobs/{job_id}"
_RUN = "/20190101/jobRuns/{run_id}"
ROUTES = [
    Route("/20190101/jobs", create_job, methods=["POST"]),
    Route("/20190101/jobs", list_jobs, methods=["GET"]),
    Route(_JOB, get_job, methods=["GET"]),
    Route(_JOB, update_job, methods=["PUT"]),
    Route(_JOB, delete_job, methods=["DELETE"]),
    Route("/20190101/jobRuns", create_job_run, methods=["POST"]),
    Route("/20190101/jobRuns", list_job_runs, methods=["GET"]),
    Route(_RUN, get_job_run, methods=["GET"]),
    Route(_RUN, update_job_run, methods=["PUT"]),
    Route(_RUN, delete_job_run, methods=["DELETE"]),
    Route(f"{_RUN}/actions/cancelJobRun", cancel_job_run, methods=["POST"]),
    Route("/20190101/jobShapes", list_job_shapes, methods=["GET"]),
]
