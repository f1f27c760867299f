"""What a fault is, as JSON of `/_local/faults` and of `faults.json`, and what it answers. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from email.utils import format_datetime
from enum import StrEnum

from pydantic import ConfigDict, Field, TypeAdapter, model_validator

from local_oci.http.errors import ServiceError, not_authenticated, not_found, too_many_requests
from local_oci.storage.records import WireModel


class Kind(StrEnum):
    """What happens."""

    # Refusals in place of the service's answer.
    STATUS = "status"  # `status`, `code`, `message`
    THROTTLE = "throttle"  # 429, with a Retry-After of `retry_after` seconds if that is given
    POLICY = "policy"  # 404: no policy allows it
    EXPIRED_TOKEN = "expired_token"  # 401: the session is over
    CLOCK_SKEW = "clock_skew"  # 401: the clocks are `seconds` apart, as the Date header shows
    # What the network does.
    DELAY = "delay"  # wait `seconds` first
    RESET = "reset"  # close the connection before anything happens
    CUT_REQUEST = "cut_request"  # close it after `after_bytes` of the request's body
    CUT_RESPONSE = "cut_response"  # close it after `after_bytes` of the response's body
    LATE_EFFECT = "late_effect"  # close it at once; the request has its effect `seconds` later
    SLOW_BODY = "slow_body"  # both bodies pass at `bytes_per_second`
    TIMEOUT = "timeout"  # let the gateway's deadline be `seconds`
    # What becomes of a deployment.
    NO_CAPACITY = "no_capacity"  # it fails: no machine of this shape
    BOOTSTRAP = "bootstrap"  # it fails while it starts
    IMAGE_PULL = "image_pull"  # it fails: the image cannot be pulled
    NEVER_HEALTHY = "never_healthy"  # it fails: after `seconds` its container was never healthy
    DIES_LATER = "dies_later"  # its container ends, `seconds` after it was healthy


REFUSING_KINDS = frozenset(
    {Kind.STATUS, Kind.THROTTLE, Kind.POLICY, Kind.EXPIRED_TOKEN, Kind.CLOCK_SKEW}
)
WORKFLOW_KINDS = frozenset(
    {Kind.NO_CAPACITY, Kind.BOOTSTRAP, Kind.IMAGE_PULL, Kind.NEVER_HEALTHY, Kind.DIES_LATER}
)


class Fault(WireModel):
    """A fault that happens `times` times to what matches.

    Args:
        kind: what happens.
        operation: SDK name of the operation, such as "upload_part".
        path: pattern of the complete path, in which `*` means anything; instead of or besides the
            operation.
        times: how often it happens; it is forgotten then.
        skip: how many matching requests to leave alone first.
        status: HTTP status of a STATUS fault.
        code: Oracle's error code of a STATUS fault.
        message: its message.
        retry_after: seconds in the Retry-After header of a STATUS or THROTTLE fault.
        seconds: of the kinds that take a time.
        after_bytes: of a CUT_REQUEST or CUT_RESPONSE.
        bytes_per_second: of a SLOW_BODY.
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
    retry_after: int | None = Field(default=None, ge=0)
    seconds: float = Field(default=0.0, ge=0)
    after_bytes: int = Field(default=0, ge=0)
    bytes_per_second: int = Field(default=1024, ge=1)

    @model_validator(mode="after")
    def _must_match_something(self) -> Fault:
        if self.operation is None and self.path is None:
            raise ValueError("a fault needs an operation, a path, or both")
        if self.kind in WORKFLOW_KINDS and self.operation is None:
            raise ValueError(f"a fault of the kind {self.kind} needs an operation")
        return self


FAULTS: TypeAdapter[list[Fault]] = TypeAdapter(list[Fault])


# --- refusals ---------------------------------------------------------------------------------


def refusal_of(fault: Fault) -> ServiceError:
    """The error that a fault of a refusing kind answers."""
    match fault.kind:
        case Kind.THROTTLE:
            return too_many_requests()
        case Kind.POLICY:
            return not_found()
        case Kind.EXPIRED_TOKEN:
            return not_authenticated("the session token expired")
        case Kind.CLOCK_SKEW:
            return not_authenticated(f"the date header is {fault.seconds:g} s off the clock")
        case _:
            return ServiceError(fault.status, fault.code, fault.message)


def headers_of(fault: Fault, now: datetime) -> dict[str, str]:
    """The headers that come with it."""
    headers = {}
    if fault.retry_after is not None:
        headers["retry-after"] = str(fault.retry_after)
    if fault.kind is Kind.CLOCK_SKEW:
        headers["date"] = format_datetime(now + timedelta(seconds=fault.seconds), usegmt=True)
    return headers
