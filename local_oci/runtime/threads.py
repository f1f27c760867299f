"""Blocking calls that may take long: in threads of their own, which nobody has to wait for.

Those of `asyncio.to_thread` are waited for when the event loop ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


async def run_abandonable(function: Callable[[], Result]) -> Result:
    """Run a function in a thread that goes on alone if the caller is cancelled."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def run() -> None:
        settled: Future[Result] = Future()
        try:
            settled.set_result(function())
        except Exception as error:
            settled.set_exception(error)
        with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody listens
            loop.call_soon_threadsafe(_settle, future, settled)

    threading.Thread(target=run, daemon=True).start()
    return await future


def _settle(future: asyncio.Future[Result], settled: Future[Result]) -> None:
    if future.done():  # the caller was cancelled
        return
    if (error := settled.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(settled.result())
