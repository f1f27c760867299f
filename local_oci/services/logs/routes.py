"""HTTP of the Logging service: groups, logs, and its work requests."""

from __future__ import annotations

from typing import Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_oci.http.errors import conflict, not_found
from local_oci.http.messages import (
    WORK_REQUEST_HEADER,
    check_if_match,
    empty_response,
    given_fields,
    parse_details,
    read_details,
    record_response,
    required_query,
)
from local_oci.http.pages import entries_response, list_response
from local_oci.http.retry_tokens import once
from local_oci.services.cloud import Cloud, cloud_of
from local_oci.services.logs.models import (
    LOG_GROUP_TYPE,
    LOG_TYPE,
    CreateLogDetails,
    CreateLogGroupDetails,
    Log,
    LoggingOperation,
    LoggingWorkRequest,
    LoggingWorkRequestResource,
    LogGroup,
    UpdateLogDetails,
    UpdateLogGroupDetails,
)
from local_oci.services.work_requests.models import LogEntry
from local_oci.storage.records import new_ocid, now

# --- log groups -------------------------------------------------------------------------------


@once
def create_log_group(request: Request, body: bytes) -> Response:
    """Make a log group."""
    details = parse_details(CreateLogGroupDetails, body)
    cloud = cloud_of(request)
    if any(
        group.display_name == details.display_name
        and group.compartment_id == details.compartment_id
        for group in cloud.logs.groups.scan()
    ):
        raise conflict(f"A log group named '{details.display_name}' exists already.")
    group = LogGroup(**details.model_dump(), id=new_ocid(LOG_GROUP_TYPE))
    cloud.logs.groups.put(group)
    return _accepted(cloud, LoggingOperation.CREATE_LOG_GROUP, group)


async def get_log_group(request: Request) -> Response:
    """One log group."""
    return record_response(_group(request))


async def list_log_groups(request: Request) -> Response:
    """Log groups of a compartment."""
    required_query(request, "compartmentId")
    return list_response(
        request,
        cloud_of(request).logs.groups.scan(),
        filters={
            "compartmentId": lambda group: group.compartment_id,
            "displayName": lambda group: group.display_name,
        },
        sort_fields={
            "timeCreated": lambda group: group.time_created.isoformat(),
            "displayName": lambda group: group.display_name,
        },
    )


async def update_log_group(request: Request) -> Response:
    """Change a log group's name, description and tags."""
    details = await read_details(request, UpdateLogGroupDetails)
    cloud = cloud_of(request)
    group = _group(request)
    check_if_match(request, group)
    changed = cloud.logs.groups.change(group, time_last_modified=now(), **given_fields(details))
    return _accepted(cloud, LoggingOperation.UPDATE_LOG_GROUP, changed)


async def delete_log_group(request: Request) -> Response:
    """Delete an empty log group."""
    cloud = cloud_of(request)
    group = _group(request)
    check_if_match(request, group)
    if any(log.log_group_id == group.id for log in cloud.logs.logs.scan()):
        raise conflict("The log group holds logs; delete them first.")
    cloud.logs.groups.delete(group.id)
    return _accepted(cloud, LoggingOperation.DELETE_LOG_GROUP, group)


def _group(request: Request) -> LogGroup:
    group = cloud_of(request).logs.groups.get(request.path_params["log_group_id"])
    if group is None:
        raise not_found()
    return group


# --- logs -------------------------------------------------------------------------------------


@once
def create_log(request: Request, body: bytes) -> Response:
    """Make a log in a group."""
    details = parse_details(CreateLogDetails, body)
    cloud = cloud_of(request)
    group = _group(request)
    if any(
        log.display_name == details.display_name and log.log_group_id == group.id
        for log in cloud.logs.logs.scan()
    ):
        raise conflict(f"A log named '{details.display_name}' exists already.")
    log = Log(
        **details.model_dump(),
        id=new_ocid(LOG_TYPE),
        compartment_id=group.compartment_id,
        log_group_id=group.id,
        tenancy_id=cloud.identity.tenancy,
    )
    cloud.logs.logs.put(log)
    return _accepted(cloud, LoggingOperation.CREATE_LOG, log)


async def get_log(request: Request) -> Response:
    """One log."""
    return record_response(_log(request))


async def list_logs(request: Request) -> Response:
    """Logs of a group."""
    group = _group(request)
    logs = (log for log in cloud_of(request).logs.logs.scan() if log.log_group_id == group.id)
    return list_response(
        request,
        logs,
        filters={
            "displayName": lambda log: log.display_name,
            "logType": lambda log: log.log_type,
            "lifecycleState": lambda log: log.lifecycle_state,
        },
        sort_fields={
            "timeCreated": lambda log: log.time_created.isoformat(),
            "displayName": lambda log: log.display_name,
        },
    )


async def update_log(request: Request) -> Response:
    """Change a log's name, tags and retention, or switch it on and off."""
    details = await read_details(request, UpdateLogDetails)
    cloud = cloud_of(request)
    log = _log(request)
    check_if_match(request, log)
    changed = cloud.logs.logs.change(log, time_last_modified=now(), **given_fields(details))
    return _accepted(cloud, LoggingOperation.UPDATE_LOG, changed)


async def delete_log(request: Request) -> Response:
    """Delete a log and what was written into it."""
    cloud = cloud_of(request)
    log = _log(request)
    check_if_match(request, log)
    cloud.logs.delete(log)
    return _accepted(cloud, LoggingOperation.DELETE_LOG, log)


def _log(request: Request) -> Log:
    log = cloud_of(request).logs.logs.get(request.path_params["log_id"])
    if log is None or log.log_group_id != request.path_params["log_group_id"]:
        raise not_found()
    return log


# --- work requests ----------------------------------------------------------------------------

_ACTIONS: dict[LoggingOperation, Literal["CREATED", "UPDATED", "DELETED"]] = {
    LoggingOperation.CREATE_LOG_GROUP: "CREATED",
    LoggingOperation.UPDATE_LOG_GROUP: "UPDATED",
    LoggingOperation.DELETE_LOG_GROUP: "DELETED",
    LoggingOperation.CREATE_LOG: "CREATED",
    LoggingOperation.UPDATE_LOG: "UPDATED",
    LoggingOperation.DELETE_LOG: "DELETED",
}


def _accepted(cloud: Cloud, operation: LoggingOperation, subject: LogGroup | Log) -> Response:
    resource = LoggingWorkRequestResource(
        action_type=_ACTIONS[operation],
        entity_type=LOG_GROUP_TYPE if isinstance(subject, LogGroup) else LOG_TYPE,
        identifier=subject.id,
    )
    work_request = LoggingWorkRequest(
        id=new_ocid("logworkrequest"),
        compartment_id=subject.compartment_id,
        operation_type=operation,
        resources=(resource,),
    )
    cloud.logs.work_requests.put(work_request)
    return empty_response(202, {WORK_REQUEST_HEADER: work_request.id})


async def get_logging_work_request(request: Request) -> Response:
    """One work request of the Logging service."""
    return record_response(_work_request(request))


async def list_logging_work_requests(request: Request) -> Response:
    """Work requests of a compartment."""
    required_query(request, "compartmentId")
    return list_response(
        request,
        cloud_of(request).logs.work_requests.scan(),
        filters={
            "compartmentId": lambda record: record.compartment_id,
            "id": lambda record: record.id,
            "status": lambda record: record.status,
        },
        sort_fields={"timeAccepted": lambda record: record.time_accepted.isoformat()},
    )


async def list_logging_work_request_logs(request: Request) -> Response:
    """What a work request did, in one line: it was done when it was accepted."""
    record = _work_request(request)
    return entries_response(request, [LogEntry(message="Done", timestamp=record.time_finished)])


async def list_logging_work_request_errors(request: Request) -> Response:
    """There are none."""
    _work_request(request)
    return entries_response(request, [])


def _work_request(request: Request) -> LoggingWorkRequest:
    record = cloud_of(request).logs.work_requests.get(request.path_params["work_request_id"])
    if record is None:
        raise not_found()
    return record


_GROUP = "/20200531/logGroups/{log_group_id}"
_WORK_REQUESTS = "/20200531/workRequests"
_WORK_REQUEST = f"{_WORK_REQUESTS}/{{work_request_id}}"
ROUTES = [
    Route("/20200531/logGroups", create_log_group, methods=["POST"]),
    Route("/20200531/logGroups", list_log_groups, methods=["GET"]),
    Route(_GROUP, get_log_group, methods=["GET"]),
    Route(_GROUP, delete_log_group, methods=["DELETE"]),
    Route(f"{_GROUP}/logs", create_log, methods=["POST"]),
    Route(f"{_GROUP}/logs", list_logs, methods=["GET"]),
    Route(f"{_GROUP}/logs/{{log_id}}", get_log, methods=["GET"]),
    Route(f"{_GROUP}/logs/{{log_id}}", delete_log, methods=["DELETE"]),
    Route(f"{_GROUP}/logs/{{log_id}}", update_log, methods=["PUT"]),
    Route(_GROUP, update_log_group, methods=["PUT"]),
    Route(_WORK_REQUESTS, list_logging_work_requests, methods=["GET"]),
    Route(_WORK_REQUEST, get_logging_work_request, methods=["GET"]),
    Route(f"{_WORK_REQUEST}/logs", list_logging_work_request_logs, methods=["GET"]),
    Route(f"{_WORK_REQUEST}/errors", list_logging_work_request_errors, methods=["GET"]),
]
