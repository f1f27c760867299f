"""Work requests as they travel and as they are stored (oci 2.189.0, data_science.models)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from local_oci.storage.records import Resource, WireModel, now


class Operation(StrEnum):
    """Values of WorkRequest.operationType that this cloud uses."""

    CREATE_DEPLOYMENT = "MODEL_DEPLOYMENT_CREATE"
    UPDATE_DEPLOYMENT = "MODEL_DEPLOYMENT_UPDATE"
    ACTIVATE_DEPLOYMENT = "MODEL_DEPLOYMENT_ACTIVATE"
    DEACTIVATE_DEPLOYMENT = "MODEL_DEPLOYMENT_DEACTIVATE"
    DELETE_DEPLOYMENT = "MODEL_DEPLOYMENT_DELETE"
    EXPORT_ARTIFACT = "EXPORT_MODEL_ARTIFACT"
    IMPORT_ARTIFACT = "IMPORT_MODEL_ARTIFACT"
    DELETE_PROJECT = "PROJECT_DELETE"
    DELETE_VERSION_SET = "MODELVERSIONSET_DELETE"


class Action(StrEnum):
    """Values of WorkRequestResource.actionType."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    DELETED = "DELETED"
    RELATED = "RELATED"
    IN_PROGRESS = "IN_PROGRESS"


# What has become of the subject once the operation has ended well; the others update it.
_SUCCEEDED = {
    Operation.CREATE_DEPLOYMENT: Action.CREATED,
    Operation.DELETE_DEPLOYMENT: Action.DELETED,
    Operation.IMPORT_ARTIFACT: Action.RELATED,
    Operation.DELETE_PROJECT: Action.DELETED,
    Operation.DELETE_VERSION_SET: Action.DELETED,
}


def final_action(operation: Operation, *, succeeded: bool) -> Action:
    """What has become of a subject after an operation's end [inferred].

    A deployment that failed to start was created all the same.
    """
    if succeeded or operation is Operation.CREATE_DEPLOYMENT:
        return _SUCCEEDED.get(operation, Action.UPDATED)
    return Action.RELATED


class Status(StrEnum):
    """Values of WorkRequest.status."""

    ACCEPTED = "ACCEPTED"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


UNFINISHED = frozenset({Status.ACCEPTED, Status.IN_PROGRESS})


class WorkRequestResource(WireModel):
    """What a work request is about."""

    action_type: Action
    entity_type: str
    identifier: str
    entity_uri: str


class LogEntry(WireModel):
    """One step, in words."""

    message: str
    timestamp: datetime = Field(default_factory=now)


class WorkRequestError(WireModel):
    """Why a work request failed."""

    code: str
    message: str
    timestamp: datetime = Field(default_factory=now)


class WorkRequest(Resource):
    """A job with its progress; `parameters` is what it needs to run again from the beginning."""

    INTERNAL: ClassVar[frozenset[str]] = frozenset({"etag", "parameters", "logs", "errors"})

    operation_type: Operation
    status: Status = Status.ACCEPTED
    percent_complete: float = 0.0
    resources: tuple[WorkRequestResource, ...]
    time_accepted: datetime = Field(default_factory=now)
    time_started: datetime | None = None
    time_finished: datetime | None = None
    parameters: str
    logs: tuple[LogEntry, ...] = ()
    errors: tuple[WorkRequestError, ...] = ()

    @property
    def subject(self) -> str:
        """OCID of the resource that the job is about."""
        return self.resources[0].identifier
