"""Which requests to the cloud are sent again, when, and how often: one policy for all clients.

It is the SDK's retry strategy in shape. The SDK's own waits ten minutes, heeds no `retry-after`,
and sends again what was refused for the resource's state; its circuit breaker is one object for all
clients of a process (oci 2.189.0, oci/circuit_breaker), so trouble with one service would stop
another. There is no breaker here: the budget of a request ends it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import oci
from oci._vendor.requests.exceptions import ConnectionError as ConnectionLostError
from oci._vendor.requests.exceptions import Timeout

# Oracle, "API Errors": 429 TooManyRequests; 500, 502, 503 and 504 may pass. 409 LockConflict is the
# service's own affair, and all other conflicts are the caller's to understand.
_PASSING = frozenset({429, 500, 502, 503, 504})
_LOCKED = (409, "LockConflict")
_LOST = (
    ConnectionLostError,
    Timeout,
    ConnectionError,
    oci.exceptions.RequestException,
    oci.exceptions.ConnectTimeout,
)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Sends a request again while what went wrong may pass and there is time.

    Requests through it may be sent twice: reads, creates with a retry token, changes that name the
    version they change, and changes of state, whose second copy is refused for the state that the
    first one brought. A question to a model goes through no client of the SDK.

    Attributes:
        budget_s: from the first attempt to the beginning of the last one.
        first_pause_s, longest_pause_s: pauses double from the one to the other, less up to half.
        now, sleep: the clock that it goes by.
    """

    budget_s: float = 60.0
    first_pause_s: float = 0.5
    longest_pause_s: float = 10.0
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def make_retrying_call(self, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """The SDK's entry: calls, and calls again.

        Raises:
            Exception: what the last call raised.
        """
        rewind = _rewinder(named.get("body"))
        deadline = self.now() + self.budget_s
        attempt = 0
        while True:
            try:
                return call(*args, **named)
            except Exception as error:
                pause = max(self._pause(attempt), asked_pause(error) or 0.0)
                late = self.now() + pause > deadline
                if late or not may_pass(error) or not rewind():
                    raise
            self.sleep(pause)
            attempt += 1

    def add_circuit_breaker_callback(self, callback: object) -> None:
        """Part of the SDK's protocol; there is no breaker to call back."""

    def _pause(self, attempt: int) -> float:
        longest = min(self.first_pause_s * 2.0**attempt, self.longest_pause_s)
        return longest * random.uniform(0.5, 1.0)


def may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed in a while, as far as the error tells."""
    if isinstance(error, oci.exceptions.ServiceError):
        return error.status in _PASSING or (error.status, error.code) == _LOCKED
    return isinstance(error, _LOST)


def asked_pause(error: BaseException) -> float | None:
    """The seconds that the service asks to wait: `retry-after`, in seconds or as a date."""
    headers = getattr(error, "headers", None) or {}
    text = str(headers.get("retry-after") or headers.get("opc-retry-after") or "")
    if text.replace(".", "", 1).isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _rewinder(body: Any) -> Callable[[], bool]:
    """Sets a stream back to where it is now; says whether the body can be sent again."""
    if not hasattr(body, "read"):
        return lambda: True
    try:
        start = body.tell()
    except (AttributeError, OSError):
        return lambda: False

    def rewind() -> bool:
        try:
            body.seek(start)
        except (AttributeError, OSError):
            return False
        return True

    return rewind
