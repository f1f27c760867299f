"""Log groups, logs and entries (oci 2.189.0, logging.models and loggingsearch.models)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from local_oci.limits import (
    DEFAULT_LOG_RETENTION_DAYS,
    LOG_NAME_CHARACTERS,
    LOG_RETENTION_DAYS,
    MAX_QUERY_CHARACTERS,
)
from local_oci.storage.records import FreeformTags, Resource, Tagged, WireModel, now

LOG_GROUP_TYPE = "loggroup"
LOG_TYPE = "log"


def _in_steps(days: int) -> int:
    if days not in LOG_RETENTION_DAYS:
        raise ValueError(f"{days} is not one of {sorted(LOG_RETENTION_DAYS)}")
    return days


LogName = Annotated[str, Field(min_length=1, max_length=LOG_NAME_CHARACTERS)]
RetentionDays = Annotated[int, AfterValidator(_in_steps)]


class CreateLogGroupDetails(Tagged):
    """Body of create_log_group."""

    compartment_id: str
    display_name: LogName
    description: str | None = None


class UpdateLogGroupDetails(WireModel):
    """Body of update_log_group; a field that is absent stays as it is."""

    display_name: LogName | None = None
    description: str | None = None
    freeform_tags: FreeformTags | None = None
    defined_tags: dict[str, dict[str, Any]] | None = None


class LogGroup(Resource, Tagged):
    """A group of logs."""

    display_name: str
    description: str | None = None
    lifecycle_state: Literal["ACTIVE"] = "ACTIVE"
    time_created: datetime = Field(default_factory=now)
    time_last_modified: datetime = Field(default_factory=now)


class CreateLogDetails(Tagged):
    """Body of create_log."""

    display_name: LogName
    log_type: Literal["CUSTOM", "SERVICE"]
    is_enabled: bool = True
    configuration: dict[str, Any] | None = None
    retention_duration: RetentionDays = DEFAULT_LOG_RETENTION_DAYS


class UpdateLogDetails(WireModel):
    """Body of update_log; a field that is absent stays as it is."""

    display_name: LogName | None = None
    is_enabled: bool | None = None
    retention_duration: RetentionDays | None = None
    configuration: dict[str, Any] | None = None
    freeform_tags: FreeformTags | None = None
    defined_tags: dict[str, dict[str, Any]] | None = None


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
    UPDATE_LOG_GROUP = "UPDATE_LOG_GROUP"
    DELETE_LOG_GROUP = "DELETE_LOG_GROUP"
    CREATE_LOG = "CREATE_LOG"
    UPDATE_LOG = "UPDATE_LOG"
    DELETE_LOG = "DELETE_LOG"


class LoggingWorkRequestResource(WireModel):
    """What a work request of the Logging service is about."""

    action_type: Literal["CREATED", "UPDATED", "DELETED"]
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
    search_query: str = Field(max_length=MAX_QUERY_CHARACTERS)


class PushEntry(WireModel):
    """LogEntry of loggingingestion.models."""

    id: str
    data: str
    time: str | None = None


class PushBatch(WireModel):
    """LogEntryBatch; `defaultlogentrytime` is written so on the wire as well."""

    source: str
    type: str
    subject: str | None = None
    defaultlogentrytime: str
    entries: tuple[PushEntry, ...]


class PutLogsDetails(WireModel):
    """Body of put_logs."""

    specversion: Literal["1.0"]
    log_entry_batches: tuple[PushBatch, ...] = Field(min_length=1)
