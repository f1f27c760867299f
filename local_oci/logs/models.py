"""Log groups, logs and entries (oci 2.189.0, logging.models and loggingsearch.models)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Literal

from pydantic import Field

from local_oci.storage.ids import now
from local_oci.storage.records import Resource, Tagged, WireModel

LOG_GROUP_TYPE = "loggroup"
LOG_TYPE = "log"


class CreateLogGroupDetails(Tagged):
    """Body of create_log_group."""

    compartment_id: str
    display_name: str
    description: str | None = None


class LogGroup(Resource, Tagged):
    """A group of logs."""

    display_name: str
    description: str | None = None
    lifecycle_state: Literal["ACTIVE"] = "ACTIVE"
    time_created: datetime = Field(default_factory=now)
    time_last_modified: datetime = Field(default_factory=now)


class CreateLogDetails(Tagged):
    """Body of create_log."""

    display_name: str
    log_type: Literal["CUSTOM", "SERVICE"]
    is_enabled: bool = True
    configuration: dict[str, Any] | None = None
    retention_duration: int = 30


class Log(Resource, Tagged):
    """A log."""

    log_group_id: str
    tenancy_id: str
    display_name: str
    log_type: Literal["CUSTOM", "SERVICE"]
    is_enabled: bool
    configuration: dict[str, Any] | None = None
    retention_duration: int
    lifecycle_state: Literal["ACTIVE"] = "ACTIVE"
    time_created: datetime = Field(default_factory=now)
    time_last_modified: datetime = Field(default_factory=now)


class LoggingOperation(StrEnum):
    """Values of the Logging service's WorkRequest.operationType that are used here."""

    CREATE_LOG_GROUP = "CREATE_LOG_GROUP"
    DELETE_LOG_GROUP = "DELETE_LOG_GROUP"
    CREATE_LOG = "CREATE_LOG"
    DELETE_LOG = "DELETE_LOG"


class LoggingWorkRequestResource(WireModel):
    """What a work request of the Logging service is about."""

    action_type: Literal["CREATED", "DELETED"]
    entity_type: str
    identifier: str


class LoggingWorkRequest(Resource):
    """A work request of the Logging service; here each has succeeded before it is seen."""

    INTERNAL: ClassVar[frozenset[str]] = frozenset({"etag"})

    operation_type: LoggingOperation
    status: Literal["SUCCEEDED"] = "SUCCEEDED"
    percent_complete: float = 100.0
    resources: tuple[LoggingWorkRequestResource, ...]
    time_accepted: datetime = Field(default_factory=now)
    time_started: datetime = Field(default_factory=now)
    time_finished: datetime = Field(default_factory=now)


class SearchLogsDetails(WireModel):
    """Body of search_logs."""

    time_start: str
    time_end: str
    search_query: str
