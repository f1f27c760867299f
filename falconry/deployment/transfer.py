"""Uploads' rate limit, progress and request bodies."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

from falconry.pipeline import Report
from falconry.progress import human_size

# Handed to the connection at once: few enough calls that Python does not slow it down.
SEND_BYTES = 1 << 20
_MEGABYTE = 1_000_000
_LEAST_SEND_BYTES = 16 << 10
# A thread that was held up may make up for it by sending this much of a second's bytes at once.
_BURST_S = 0.25
_REPORT_INTERVAL_S = 0.5
_RATE_WINDOW_S = 10.0


class RateLimiter:
    """A token bucket that all threads of an upload draw from.

    Args:
        megabytes_per_second: the limit, in 10^6 bytes; None for none.
        now: the clock, in seconds.
        sleep: waits some seconds.
    """

    def __init__(
        self,
        megabytes_per_second: float | None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = None if megabytes_per_second is None else megabytes_per_second * _MEGABYTE
        self._now = now
        self._sleep = sleep
        self._lock = threading.Lock()
        self._spent_until = 0.0

    @property
    def piece_bytes(self) -> int:
        """How much to send at once; little with a low limit."""
        if self._rate is None:
            return SEND_BYTES
        return max(_LEAST_SEND_BYTES, min(SEND_BYTES, int(self._rate * _BURST_S)))

    def take(self, count: int) -> None:
        """Waits until that many more bytes may be sent."""
        if self._rate is None:
            return
        with self._lock:
            now = self._now()
            self._spent_until = max(self._spent_until, now - _BURST_S) + count / self._rate
            pause = self._spent_until - now
        if pause > 0:
            self._sleep(pause)


class TransferProgress:
    """Counts the bytes of several threads; reports rate and time left.

    Args:
        step: what is being done.
        total: bytes in all.
        report: called by one thread at a time.
        now: the clock, in seconds.
    """

    def __init__(
        self, step: str, total: int, report: Report, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._step = step
        self._total = max(total, 1)
        self._report = report
        self._now = now
        self._lock = threading.Lock()
        self._count = 0
        self._reported = float("-inf")
        self._past: deque[tuple[float, int]] = deque([(now(), 0)])

    def skip(self, count: int) -> None:
        """Counts bytes that need not be sent, without effect on the rate."""
        with self._lock:
            self._count += count
            self._past = deque((time, before + count) for time, before in self._past)

    def add(self, count: int) -> None:
        """Counts bytes that were sent; fewer than 0 are sent again."""
        with self._lock:
            self._count += count
            now = self._now()
            if now - self._reported >= _REPORT_INTERVAL_S or self._count >= self._total:
                self._reported = now
                self._report_at(now)

    def _report_at(self, now: float) -> None:
        while len(self._past) > 1 and now - self._past[0][0] > _RATE_WINDOW_S:
            self._past.popleft()
        since, before = self._past[0]
        self._past.append((now, self._count))
        words = [self._step]
        rate = (self._count - before) / (now - since) if now > since else 0.0
        if rate > 0 and self._count < self._total:
            left = _duration((self._total - self._count) / rate)
            words += [f"{human_size(int(rate))}/s", f"{left} left"]
        self._report(" · ".join(words), min(max(self._count, 0) / self._total, 1.0))


class UploadBody:
    """A request's body, read in pieces, that can be sent again.

    It is no iterator and has no file descriptor, so nothing copies it or looks up its size.

    Args:
        size: bytes in all.
        piece: returns a number of bytes from an offset; the next call may reuse the memory.
        limiter: limits how fast it is read.
        progress: counts what was read.
        stopped: cancels the body when set.
    """

    def __init__(
        self,
        size: int,
        piece: Callable[[int, int], Any],
        limiter: RateLimiter,
        progress: TransferProgress,
        stopped: threading.Event | None = None,
    ) -> None:
        self._size = size
        self._piece = piece
        self._limiter = limiter
        self._progress = progress
        self._stopped = stopped
        self._position = 0

    def __len__(self) -> int:
        return self._size

    def read(self, size: int = -1) -> Any:
        """Returns the next piece, which is empty at the end."""
        self._check_not_stopped()
        left = self._size - self._position
        count = min(left, self._limiter.piece_bytes, size if size > 0 else left)
        if count == 0:
            return b""
        piece = self._piece(self._position, count)
        self._limiter.take(count)
        self._position += count
        self._progress.add(count)
        return piece

    def tell(self) -> int:
        """Returns how many bytes were read."""
        return self._position

    def seek(self, position: int) -> None:
        """Goes back to a position, to send the rest again."""
        self._check_not_stopped()
        self._progress.add(position - self._position)
        self._position = position

    def _check_not_stopped(self) -> None:
        if self._stopped is not None and self._stopped.is_set():
            raise CancelledError


def send_in_large_pieces(client: Any) -> None:
    """Makes a client read bodies by the mebibyte, not 16 KiB (urllib3)."""
    for adapter in client.base_client.session.adapters.values():
        adapter.poolmanager.connection_pool_kw["blocksize"] = SEND_BYTES


def _duration(seconds: float) -> str:
    """Formats a time: `40 s`, `12 min`, `3 h 05 min`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02} min"
