"""Which failures pass by themselves, and how long a request is repeated until they have."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

import oci

from falconry.cloud.retries import may_pass

_Answer = TypeVar("_Answer")

# How long one request may go on failing, from its first failure on. A minute is what a restart of a
# router or a throttled tenancy takes; a network that is gone should be told.
_BUDGET_S = 120.0
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 15.0
# Two writers of one object, which the SDK's UploadManager repeats as well, and bytes that changed
# on their way (oci 2.189.0, upload_part, content_md5).
_REQUEST_TIMEOUT = 408
_PASSING_CODES = ("ConcurrentObjectUpdate", "UnmatchedContentMD5")


def patiently(
    request: Callable[[], _Answer], pause: Callable[[float], None] = time.sleep
) -> _Answer:
    """Makes a request, again where its failure may pass, within a budget of time.

    Repeated are timeouts, broken connections, 429 and 5xx. So the request must be one that may
    happen twice.

    Args:
        request: makes it.
        pause: waits some seconds; may raise where nobody wants the answer any more.

    Raises:
        oci.exceptions.ServiceError: refused, or still refused when the budget was used up.
        oci.exceptions.RequestException: still no answer.
        oci.exceptions.ConnectTimeout: still no connection.
    """
    deadline, longest = None, _FIRST_PAUSE_S
    while True:
        try:
            return request()
        except (
            oci.exceptions.ServiceError,
            oci.exceptions.RequestException,
            oci.exceptions.ConnectTimeout,
        ) as error:
            now = time.monotonic()
            deadline = deadline or now + _BUDGET_S
            if not _passes(error) or now + longest > deadline:
                raise
        # Not all of it, so that threads that failed together do not come back together.
        pause(longest * random.uniform(0.5, 1.0))
        longest = min(longest * 2, _LONGEST_PAUSE_S)


def _passes(error: Exception) -> bool:
    if may_pass(error) or not isinstance(error, oci.exceptions.ServiceError):
        return True
    return error.status == _REQUEST_TIMEOUT or error.code in _PASSING_CODES
