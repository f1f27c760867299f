"""Retries of failed requests, lists in pages, and idempotent creations.

One policy decides for all clients which requests are sent again, when, and how often. It replaces
the SDK's retry strategy, which waits ten minutes, ignores `retry-after`, and sends again what was
refused because of the resource's state. The SDK's circuit breaker is one object for all clients of
a process (oci 2.189.0, oci/circuit_breaker), so trouble with one service would stop another. There
is no breaker here: the budget of a request ends it.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import oci
from oci._vendor.requests.exceptions import ConnectionError as ConnectionLostError
from oci._vendor.requests.exceptions import Timeout

from falconry.digests import bytes_digest
from falconry.library_errors import setting_error

# Oracle, "API Errors": 429 TooManyRequests; 500, 502, 503 and 504 may pass, and 408 is a request
# that did not arrive in time.
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
# 409 LockConflict is internal to the service, ConcurrentObjectUpdate means two writers of one
# object, which the SDK's UploadManager repeats as well; callers handle all other conflicts. The
# others are 400: bytes that changed on their way (oci 2.189.0, upload_part).
_TRANSIENT_CODES = frozenset(
    {
        "LockConflict",
        "ConcurrentObjectUpdate",
        "UnmatchedContentMD5",
        "UnmatchedContentCRC32C",
    }
)
_LOST = (
    ConnectionLostError,
    Timeout,
    ConnectionError,
    oci.exceptions.RequestException,
    oci.exceptions.ConnectTimeout,
)
# Creating a resource again after so many deletions in one day is a mistake somewhere.
_MOST_GENERATIONS = 100


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Retries a request while its failure is transient and its budget lasts.

    All requests through it may be sent twice: reads, creations with a retry token, changes with the
    version that they change, and changes of state, whose second copy is refused because of the new
    state. Requests to a model go through no client of the SDK.

    Attributes:
        budget_s: from the first failure to the beginning of the last attempt, so that sending a
            body may take longer.
        first_pause_s, longest_pause_s: pauses double between these, less up to half.
        before_retry: called before each, and raises where none can help.
    """

    budget_s: float = 60.0
    first_pause_s: float = 0.5
    longest_pause_s: float = 10.0
    before_retry: Callable[[], object] = lambda: None
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def make_retrying_call(self, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Calls until it succeeds, or raises the last error; SDK protocol."""
        rewind = _rewinder(named.get("body"))
        deadline = None
        attempt = 0
        while True:
            try:
                return call(*args, **named)
            except Exception as error:
                now = self.now()
                deadline = deadline or now + self.budget_s
                pause = max(self._pause(attempt), retry_after(error) or 0.0)
                if now + pause > deadline or not is_transient(error) or not rewind():
                    raise
            self.before_retry()
            self.sleep(pause)
            attempt += 1

    def add_circuit_breaker_callback(self, callback: object) -> None:
        """Does nothing, since there is no breaker; the SDK's protocol."""

    def _pause(self, attempt: int) -> float:
        longest = min(self.first_pause_s * 2.0**attempt, self.longest_pause_s)
        return longest * random.uniform(0.5, 1.0)


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later, by its error."""
    if isinstance(error, oci.exceptions.ServiceError):
        return error.status in _TRANSIENT or error.code in _TRANSIENT_CODES
    return isinstance(error, _LOST) and setting_error(error) is None


def retry_after(error: BaseException) -> float | None:
    """Returns the seconds of `retry-after`, a number or a date."""
    headers = getattr(error, "headers", None) or {}
    text = str(headers.get("retry-after") or headers.get("opc-retry-after") or "")
    if text.replace(".", "", 1).isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _rewinder(body: Any) -> Callable[[], bool]:
    """Makes a function that rewinds a body, if it can."""
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


# --- lists in pages -------------------------------------------------------------------------

# oci.pagination (oci 2.189.0, pagination_utils.py) wraps the SDK's retries, ten minutes of them,
# around those of the client, so a broken cloud would be reported that much later.


def all_records(operation: Callable[..., Any], *arguments: Any, **named: Any) -> list[Any]:
    """Lists the records of all pages of a list operation."""
    found: list[Any] = []
    while True:
        answer = operation(*arguments, **named)
        page = answer.data
        found += page if isinstance(page, list) else page.items  # some give a collection
        if not answer.has_next_page:
            return found
        named["page"] = answer.next_page


def all_objects(operation: Callable[..., Any], *arguments: Any, **named: Any) -> list[Any]:
    """Lists the objects of all pages of list_objects."""
    found: list[Any] = []
    while True:
        listing = operation(*arguments, **named).data
        found += listing.objects
        if listing.next_start_with is None:
            return found
        named["start"] = listing.next_start_with


# --- creations ------------------------------------------------------------------------------


def create_idempotent(
    parts: tuple[str, ...],
    create: Callable[[str], Any],
    exists: Callable[[Any], bool],
    find: Callable[[], Any | None],
) -> Any:
    """Creates a resource once, or returns what another run has just created.

    OCI gives the same answer to the same retry token for a day. All runs compute the same token for
    the same resource, so that they create one; if the token's resource was deleted again, they
    continue with the next token.

    Args:
        parts: identify the resource; the retry token is made from them.
        create: sends the request with a retry token and returns its result.
        exists: whether the resource of a result exists: the cloud repeats its answer also after
            the resource was deleted.
        find: looks for the resource, if another run created it with other details.
    """
    for generation in itertools.count():
        token = bytes_digest("\n".join((*parts, str(generation))).encode()).partition(":")[2]
        try:
            made = create(token)
        except oci.exceptions.ServiceError as error:
            taken = (error.status, error.code) == (409, "InvalidatedRetryToken")
            if not taken or generation == _MOST_GENERATIONS:
                raise
            made = find()
            if made is not None:
                return made
            continue
        if exists(made) or generation == _MOST_GENERATIONS:
            return made
    raise AssertionError("unreachable")
