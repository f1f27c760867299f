"""HTTP of the Logging service and of its search."""

from __future__ import annotations

from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_oci.cloud import Cloud, cloud_of
from local_oci.http.errors import conflict, incorrect_state, invalid_parameter, not_found
from local_oci.http.pages import list_response, make_token, read_token
from local_oci.http.requests import (
    check_if_match,
    integer_query,
    parse_details,
    parse_time,
    read_details,
    required_query,
)
from local_oci.http.responses import (
    WORK_REQUEST_HEADER,
    empty_response,
    json_response,
    record_response,
)
from local_oci.http.retry_tokens import once
from local_oci.limits import DEFAULT_PAGE, MAX_SEARCH_RESULTS, MAX_SEARCH_WINDOW
from local_oci.logs.models import (
    LOG_GROUP_TYPE,
    LOG_TYPE,
    CreateLogDetails,
    CreateLogGroupDetails,
    Log,
    LoggingOperation,
    LoggingWorkRequest,
    LoggingWorkRequestResource,
    LogGroup,
    SearchLogsDetails,
)
from local_oci.logs.search import Query, names, parse
from local_oci.storage.ids import new_ocid

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


async def delete_log_group(request: Request) -> Response:
    """Delete an empty log group."""
    cloud = cloud_of(request)
    group = _group(request)
    check_if_match(request, group)
    if any(log.log_group_id == group.id for log in cloud.logs.logs.scan()):
        raise incorrect_state("The log group holds logs; delete them first.")
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


def _accepted(cloud: Cloud, operation: LoggingOperation, subject: LogGroup | Log) -> Response:
    created = operation in (LoggingOperation.CREATE_LOG, LoggingOperation.CREATE_LOG_GROUP)
    resource = LoggingWorkRequestResource(
        action_type="CREATED" if created else "DELETED",
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
    record = cloud_of(request).logs.work_requests.get(request.path_params["work_request_id"])
    if record is None:
        raise not_found()
    return record_response(record)


# --- search -----------------------------------------------------------------------------------


async def search_logs(request: Request) -> Response:
    """Find log entries in a window of time."""
    details = await read_details(request, SearchLogsDetails)
    query = parse(details.search_query)
    start, end = _window(details)
    limit = integer_query(request, "limit", DEFAULT_PAGE, MAX_SEARCH_RESULTS)
    cloud = cloud_of(request)
    entries = [
        (sequence, entry)
        for sequence, entry in cloud.logs.read(_log_ids(cloud, query), start, end)
        if all(condition.holds(entry) for condition in query.conditions)
    ]
    if query.descending:
        entries.reverse()
    if token := request.query_params.get("page"):
        last = int(read_token(token)[0])
        entries = [
            (sequence, entry)
            for sequence, entry in entries
            if (sequence < last if query.descending else sequence > last)
        ]
    page = entries[:limit]
    more = len(entries) > limit
    headers = {"opc-next-page": make_token((str(page[-1][0]), ""))} if more else {}
    results = [{"data": entry} for _, entry in page]
    summary = {"resultCount": len(results), "fieldCount": 0}
    return json_response({"results": results, "fields": [], "summary": summary}, headers=headers)


def _window(details: SearchLogsDetails) -> tuple[datetime, datetime]:
    start = parse_time(details.time_start, "timeStart")
    end = parse_time(details.time_end, "timeEnd")
    if start >= end:
        raise invalid_parameter("timeStart: it is not before timeEnd.")
    if end - start > MAX_SEARCH_WINDOW:
        raise invalid_parameter(f"timeStart: more than {MAX_SEARCH_WINDOW.days} days to timeEnd.")
    return start, end


def _log_ids(cloud: Cloud, query: Query) -> list[str]:
    """The logs that a query names; 404 if it names none that is there [inferred]."""
    groups = {group.id: group for group in cloud.logs.groups.scan()}
    found = [
        log.id
        for log in cloud.logs.logs.scan()
        for stream in query.streams
        if log.compartment_id == stream.compartment
        and names(stream.group, log.log_group_id, groups[log.log_group_id].display_name)
        and names(stream.log, log.id, log.display_name)
    ]
    if not found:
        raise not_found()
    return found


_GROUP = "/20200531/logGroups/{log_group_id}"
ROUTES = [
    Route("/20200531/logGroups", create_log_group, methods=["POST"]),
    Route("/20200531/logGroups", list_log_groups, methods=["GET"]),
    Route(_GROUP, get_log_group, methods=["GET"]),
    Route(_GROUP, delete_log_group, methods=["DELETE"]),
    Route(f"{_GROUP}/logs", create_log, methods=["POST"]),
    Route(f"{_GROUP}/logs", list_logs, methods=["GET"]),
    Route(f"{_GROUP}/logs/{{log_id}}", get_log, methods=["GET"]),
    Route(f"{_GROUP}/logs/{{log_id}}", delete_log, methods=["DELETE"]),
    Route("/20200531/workRequests/{work_request_id}", get_logging_work_request, methods=["GET"]),
    Route("/20190909/search", search_logs, methods=["POST"]),
]
