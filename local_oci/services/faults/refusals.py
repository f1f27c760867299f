"""The refusals that a fault answers in the service's place. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from email.utils import format_datetime

from local_oci.http.errors import ServiceError, not_authenticated, not_found, too_many_requests
from local_oci.services.faults.models import Fault, Kind

REFUSING_KINDS = frozenset(
    {Kind.STATUS, Kind.THROTTLE, Kind.POLICY, Kind.EXPIRED_TOKEN, Kind.CLOCK_SKEW}
)


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
    """The headers that come with it.

    Args:
        fault: of a refusing kind.
        now: the true time.
    """
    headers = {}
    if fault.retry_after is not None:
        headers["retry-after"] = str(fault.retry_after)
    if fault.kind is Kind.CLOCK_SKEW:
        headers["date"] = format_datetime(now + timedelta(seconds=fault.seconds), usegmt=True)
    return headers
