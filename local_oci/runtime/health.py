"""Waiting for a container to say that it is healthy, and watching that it stays so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import httpx

from local_oci.limits import HEALTH_INTERVAL_SECONDS, HEALTH_RETRIES, HEALTH_TIMEOUT_SECONDS
from local_oci.runtime.runner import Address, Container

_FIRST_PROBE_SECONDS = 0.05
_LAST_PROBE_SECONDS = 1.0


class EndedError(Exception):
    """A container that ended before it was healthy; the text says how it ended."""


class UnhealthyError(Exception):
    """A container that was not healthy in time; the text says what its health check answered."""


async def wait_until_healthy(container: Container, path: str, timeout: float) -> None:
    """Ask for health until the answer is good.

    Raises:
        EndedError: it ended.
        UnhealthyError: the time is over.
    """
    ended = asyncio.create_task(container.wait())
    probed = asyncio.create_task(_probe(container.health, path, timeout))
    try:
        await asyncio.wait({ended, probed}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            raise EndedError(ended.result())
        problem = probed.result()
    finally:
        probed.cancel()
        if not ended.done():
            ended.cancel()
    if problem is not None:
        raise UnhealthyError(problem)


async def wait_for_failure(container: Container, path: str, is_stopping: Callable[[], bool]) -> str:
    """Wait until a healthy container ends, or fails its health check several times in a row.

    A container that is not healthy any more is killed.

    Args:
        container: which one.
        path: of its health check.
        is_stopping: whether it is being stopped, which makes any answer right.

    Returns:
        What became of it, as in "was killed by SIGKILL".
    """
    ended = asyncio.create_task(container.wait())
    watched = asyncio.create_task(_watch(container.health, path, is_stopping))
    try:
        await asyncio.wait({ended, watched}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            return ended.result()
        problem = watched.result()
        await container.kill()
    finally:
        for task in (ended, watched):
            task.cancel()
    return f"failed its health check {HEALTH_RETRIES} times (GET {path}: {problem})"


async def _watch(address: Address, path: str, is_stopping: Callable[[], bool]) -> str:
    """Ask for health until the answer is bad several times in a row; say what is wrong with it."""
    failures = 0
    async with client_of(address) as client:
        while True:
            await asyncio.sleep(HEALTH_INTERVAL_SECONDS)
            problem = await _problem(client, path)
            failures = failures + 1 if problem and not is_stopping() else 0
            if problem and failures >= HEALTH_RETRIES:
                return problem


def client_of(address: Address) -> httpx.AsyncClient:
    """A client for one container; every exchange sets its own deadline."""
    return httpx.AsyncClient(transport=address.transport(), base_url=address.url, timeout=None)


async def _probe(address: Address, path: str, timeout: float) -> str | None:
    """Ask until the answer is good; at the deadline say what was wrong with it."""
    deadline = time.monotonic() + timeout
    pause = _FIRST_PROBE_SECONDS
    async with client_of(address) as client:
        while True:
            problem = await _problem(client, path)
            if problem is None or time.monotonic() >= deadline:
                return problem
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LAST_PROBE_SECONDS)


async def _problem(client: httpx.AsyncClient, path: str) -> str | None:
    try:
        response = await client.get(path, timeout=HEALTH_TIMEOUT_SECONDS)
    except httpx.TimeoutException:
        return f"no answer within {HEALTH_TIMEOUT_SECONDS:g} seconds"
    except httpx.TransportError:
        return "nothing listens there"
    return None if response.is_success else f"status {response.status_code}"
