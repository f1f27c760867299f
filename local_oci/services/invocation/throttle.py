"""The tenancy's limit of requests a second."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from local_oci.http.errors import ServiceError
from local_oci.limits import MAX_REQUESTS_PER_SECOND

_WINDOW_SECONDS = 1.0


class Throttle:
    """Counts the invocations of the last second.

    Args:
        now: the time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._times: deque[float] = deque()

    def check(self) -> None:
        """Count an invocation, or refuse it.

        Raises:
            ServiceError: 429, in Oracle's words (model-dep-invoke-throttling.htm).
        """
        present = self._now()
        while self._times and self._times[0] <= present - _WINDOW_SECONDS:
            self._times.popleft()
        if len(self._times) >= MAX_REQUESTS_PER_SECOND:
            raise ServiceError(
                429,
                "TooManyRequests",
                "Tenancy request-rate limit exceeded. Please use the OCI Console to submit a "
                "support ticket for your tenancy to increase the request limit.",
            )
        self._times.append(present)
