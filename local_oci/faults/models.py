"""What a fault is, as JSON of `/_local/faults`."""

from __future__ import annotations

from enum import StrEnum

from pydantic import ConfigDict, Field, model_validator

from local_oci.storage.records import WireModel


class Kind(StrEnum):
    """What happens."""

    STATUS = "status"  # answer `status`, `code`, `message` in the service's place
    DELAY = "delay"  # wait `seconds` first
    CUT_REQUEST = "cut_request"  # close the connection after `after_bytes` of the request's body
    CUT_RESPONSE = "cut_response"  # close it after `after_bytes` of the response's body
    TIMEOUT = "timeout"  # let the gateway's deadline be `seconds`
    NO_CAPACITY = "no_capacity"  # fail a deployment: no machine of this shape
    BOOTSTRAP = "bootstrap"  # fail a deployment while it starts


WORKFLOW_KINDS = frozenset({Kind.NO_CAPACITY, Kind.BOOTSTRAP})


class Fault(WireModel):
    """A fault that happens `times` times to what matches.

    Args:
        kind: what happens.
        operation: SDK name of the operation, such as "upload_part".
        path: regular expression to find in the path, instead of or besides the operation.
        times: how often it happens; it is forgotten then.
        skip: how many matching requests to leave alone first.
        status: HTTP status of a STATUS fault.
        code: Oracle's error code of a STATUS fault.
        message: its message.
        seconds: of a DELAY or a TIMEOUT.
        after_bytes: of a CUT_REQUEST or CUT_RESPONSE.
    """

    model_config = ConfigDict(**{**WireModel.model_config, "extra": "forbid"})

    kind: Kind
    operation: str | None = None
    path: str | None = None
    times: int = Field(default=1, ge=1)
    skip: int = Field(default=0, ge=0)
    status: int = Field(default=500, ge=400, le=599)
    code: str = "InternalServerError"
    message: str = "An injected fault."
    seconds: float = Field(default=0.0, ge=0)
    after_bytes: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _must_match_something(self) -> Fault:
        if self.operation is None and self.path is None:
            raise ValueError("a fault needs an operation, a path, or both")
        return self
