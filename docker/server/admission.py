"""Limits the generations under way and in the queue; refuses the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from errors import ApiError, stopping

ResultT = TypeVar("ResultT")


class Admission:
    """Admits generations in the order of their arrival.

    Args:
        max_in_flight: how many at once.
        max_queued: how many may wait.
        queue_timeout_s: how long each may wait.

    Attributes:
        in_flight: how many are under way.
        queued: how many wait.
    """

    def __init__(self, max_in_flight: int, max_queued: int, queue_timeout_s: float) -> None:
        self._slots = asyncio.Semaphore(max_in_flight)
        self._max_in_flight = max_in_flight
        self._max_queued = max_queued
        self._queue_timeout_s = queue_timeout_s
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.in_flight = 0
        self.queued = 0

    @property
    def capacity(self) -> int:
        """How many generations one request may contain."""
        return self._max_in_flight

    def check(self) -> None:
        """Refuses what `turn` would refuse at once.

        Raises:
            ApiError: 429 if too many wait already; 503 if the server is stopping.
        """
        if self._closed:
            raise stopping()
        if self._slots.locked() and self.queued >= self._max_queued:
            raise ApiError(
                429,
                "queue_full",
                f"{self._max_in_flight} requests are under way and {self.queued} wait: "
                "try again later",
            )

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits for a generation's turn; the generation ends with the context.

        Raises:
            ApiError: 429 if too many wait already; 503 if its turn does not come in time or the
                server is stopping.
        """
        self.check()
        if self._slots.locked():
            await self._wait()
        else:
            await self._slots.acquire()
        self.in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._idle.set()
            self._slots.release()

    async def close(self, drain_s: float) -> None:
        """Refuses new generations and waits, at most `drain_s`, for those under way."""
        self._closed = True
        try:
            async with asyncio.timeout(drain_s):
                await self._idle.wait()
        except TimeoutError:
            pass

    async def _wait(self) -> None:
        self.queued += 1
        try:
            async with asyncio.timeout(self._queue_timeout_s):
                await self._slots.acquire()
        except TimeoutError:
            raise ApiError(
                503,
                "queue_timeout",
                f"the request has waited {self._queue_timeout_s:g} s for its turn: try again later",
            ) from None
        finally:
            self.queued -= 1
        if self._closed:
            self._slots.release()
            raise stopping()


async def all_of(waiting: Iterable[Coroutine[Any, Any, ResultT]]) -> list[ResultT]:
    """Waits for all; when one fails the others are cancelled."""
    tasks = [asyncio.create_task(each) for each in waiting]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
