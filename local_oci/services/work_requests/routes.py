"""HTTP of work requests, under the Data Science base path."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_oci.http.errors import conflict, not_found
from local_oci.http.messages import check_if_match, record_response, required_query
from local_oci.http.pages import entries_response, list_response
from local_oci.services.cloud import cloud_of
from local_oci.services.work_requests.models import WorkRequest


def _work_request(request: Request) -> WorkRequest:
    record = cloud_of(request).work_requests.records.get(request.path_params["work_request_id"])
    if record is None:
        raise not_found()
    return record


async def get_work_request(request: Request) -> Response:
    """One work request."""
    return record_response(_work_request(request))


async def list_work_requests(request: Request) -> Response:
    """Work requests of a compartment."""
    required_query(request, "compartmentId")
    return list_response(
        request,
        cloud_of(request).work_requests.records.scan(),
        filters={
            "compartmentId": lambda record: record.compartment_id,
            "id": lambda record: record.id,
            "resourceId": lambda record: record.subject,
            "operationType": lambda record: record.operation_type,
            "status": lambda record: record.status,
        },
        sort_fields={
            "timeAccepted": lambda record: record.time_accepted.isoformat(),
            "operationType": lambda record: record.operation_type,
            "status": lambda record: record.status,
        },
    )


async def list_work_request_logs(request: Request) -> Response:
    """The steps of a work request, oldest first."""
    return entries_response(request, _work_request(request).logs)


async def list_work_request_errors(request: Request) -> Response:
    """Why a work request failed."""
    return entries_response(request, _work_request(request).errors)


async def cancel_work_request(request: Request) -> Response:
    """Always refused: the SDK says "that has not started", and here all start when accepted."""
    record = _work_request(request)
    check_if_match(request, record)
    raise conflict(
        f"The work request is {record.status}; it can only be canceled before it starts."
    )


_ONE = "/20190101/workRequests/{work_request_id}"
ROUTES = [
    Route("/20190101/workRequests", list_work_requests, methods=["GET"]),
    Route(_ONE, get_work_request, methods=["GET"]),
    Route(_ONE, cancel_work_request, methods=["DELETE"]),
    Route(f"{_ONE}/logs", list_work_request_logs, methods=["GET"]),
    Route(f"{_ONE}/errors", list_work_request_errors, methods=["GET"]),
]
