"""Follows a server from its start to its stop, and finds out whether it answers.

Generations are the proof. While clients get answers there is nothing to do; a server without
requests gets a generation of one token now and then. Two facts are found sooner by other means:
that a process has ended, and that Triton has begun to stop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import aiohttp
from errors import ApiError, not_ready, stopping
from front_model import FrontModel, Generation, Sampling
from parts import Parts
from triton_client import TritonClient, TritonError

_STARTING_PERIOD_S = 0.1
_RUNNING_PERIOD_S = 0.5
# A server is not ready when so much of a probe's time has passed in silence.
_NOT_READY_SHARE = 1 / 3
_UNREAPED_LOOKS = 10
_RETRY_S = 1.0
_FAILURES = 3
# A server that uses less of a core computes nothing.
_BUSY_CORES = 0.2
_NO_ROOM = 503  # the front model's status for more requests than it takes at once
_PROBE = Generation(("text_input", "Hello"), 1, (), Sampling(temperature=0))
_log = logging.getLogger("front")


class BrokenServerError(Exception):
    """A server that will not answer again; the text says what has failed."""


class Health:
    """Follows a server.

    A server with the front model is ready once that has answered: its first generation warms the
    engine up. Triton closes its port as soon as it receives SIGTERM (2.51).

    Args:
        triton: the client of Triton.
        model: the front model.
        parts: Triton's processes.
        probe_period_s: how long nothing may be answered before a generation is tried.
        probe_timeout_s: how long a server that computes nothing may leave a probe unanswered.
        beat: called regularly while the server is watched.

    Attributes:
        stopped: set when Triton has begun to stop, or the server is broken.
        broken: what has failed, where the server will not answer again.
    """

    def __init__(
        self,
        triton: TritonClient,
        model: FrontModel,
        parts: Parts,
        probe_period_s: float,
        probe_timeout_s: float,
        beat: Callable[[], None],
    ) -> None:
        self._triton = triton
        self._model = model
        self._parts = parts
        self._probe_period_s = probe_period_s
        self._probe_timeout_s = probe_timeout_s
        self._beat = beat
        self._complaint: str | None = "Triton has not started"
        self._has_model = False
        self._silent_looks = 0
        self.stopped = asyncio.Event()
        self.broken: BrokenServerError | None = None

    @property
    def error(self) -> ApiError | None:
        """Why the server is not ready; None while it answers."""
        if self.broken:
            return not_ready(f"the server has failed: {self.broken}")
        if self.stopped.is_set():
            return stopping()
        if name := self._parts.ended():
            return not_ready(f"the server has failed: {name} has ended")
        return not_ready(f"the server is not ready: {self._complaint}") if self._complaint else None

    async def watch(self) -> None:
        """Watches until Triton stops or the server is broken."""
        loading = asyncio.create_task(self._look_at_loading())
        try:
            while not await self._has_answered():
                await asyncio.sleep(_STARTING_PERIOD_S)
        finally:
            loading.cancel()
        self._parts.find()
        self._complain(None)
        try:
            async with asyncio.TaskGroup() as watching:
                probing = watching.create_task(self._probe())
                while not self.stopped.is_set():
                    self._beat()
                    await asyncio.sleep(_RUNNING_PERIOD_S)
                    await self._look_at_processes()
                probing.cancel()
        except Exception:
            _log.exception("the health check failed")
            self._break("its health check failed")

    async def _look_at_loading(self) -> None:
        """Continues stopped processes; ends the server if a Python backend has ended.

        For a backend that is killed before it reports for the first time, Triton 2.51 waits
        without end. One that ends as it should is reaped at once.
        """
        unreaped_looks = 0
        while unreaped_looks < _UNREAPED_LOOKS:
            self._parts.continue_stopped()
            name = self._parts.unreaped()
            unreaped_looks = unreaped_looks + 1 if name else 0
            await asyncio.sleep(_RUNNING_PERIOD_S)
        self._break(f"{name} has ended while it was loaded")

    async def _has_answered(self) -> bool:
        if not await self._triton.ready():
            return False
        try:
            if await self._model.served() is not None:
                await self._model.generate(_PROBE, "warm-up")
                self._has_model = True
        except (TritonError, aiohttp.ClientError) as error:
            self._complain(f"its first generation failed: {error}")
            return False
        except (KeyError, ValueError) as error:
            self._complain(f"its front model has an unknown interface: {error!r}")
            return False
        return True

    async def _look_at_processes(self) -> None:
        self._parts.continue_stopped()
        if name := self._parts.ended():
            self._break(f"{name} has ended")
            return
        try:
            if not await self._triton.listens():
                self.stopped.set()
            self._silent_looks = 0
        except TimeoutError:
            self._silent_looks += 1
            if self._silent_looks >= _FAILURES:
                self._break("Triton does not answer")

    async def _probe(self) -> None:
        """Tries a generation whenever nothing has been answered for a while."""
        failures = 0
        while self._has_model and not self.stopped.is_set():
            pause_s = _RETRY_S if failures else self._probe_period_s
            silent_s = time.monotonic() - self._model.answered
            if silent_s < pause_s:
                await asyncio.sleep(min(pause_s - silent_s, _RUNNING_PERIOD_S))
                continue
            try:
                await self._generate()
                failures = 0
                self._complain(None)
            except (TritonError, ValueError, KeyError) as error:
                if getattr(error, "status", None) == _NO_ROOM and await self._is_busy(_RETRY_S):
                    continue
                failures += 1
                self._complain(f"a generation failed: {error}")
                if failures >= _FAILURES:
                    self._break(f"{failures} generations in a row failed, the last one: {error}")
                await asyncio.sleep(_RETRY_S)

    async def _generate(self) -> None:
        """Generates a token, and judges the silence meanwhile.

        The probe of a server whose slots are all taken waits for one. Such a server differs from
        a hanging one by other answers, and by the CPU time that Triton's processes use.
        """
        probe = asyncio.create_task(self._model.generate(_PROBE, "probe"))
        try:
            silent_s = 0.0
            await asyncio.wait({probe}, timeout=_RUNNING_PERIOD_S)
            while not probe.done():
                is_busy = await self._is_busy(_RUNNING_PERIOD_S)
                since_answer_s = time.monotonic() - self._model.answered
                silent_s = 0.0 if is_busy else min(silent_s + _RUNNING_PERIOD_S, since_answer_s)
                if silent_s >= self._probe_timeout_s:
                    self._break(f"no answer and no work for {silent_s:.0f} s")
                    return
                is_late = silent_s >= _NOT_READY_SHARE * self._probe_timeout_s
                self._complain("a generation has no answer" if is_late else None)
            await probe
        finally:
            probe.cancel()

    async def _is_busy(self, seconds: float) -> bool:
        """Whether Triton's processes compute, by the CPU time that they use meanwhile."""
        self._parts.used_cpu_s()
        await asyncio.sleep(seconds)
        return self._parts.used_cpu_s() >= _BUSY_CORES * seconds

    def _complain(self, complaint: str | None) -> None:
        if complaint != self._complaint:
            self._complaint = complaint
            _log.warning("not ready: %s", complaint) if complaint else _log.info("ready")

    def _break(self, reason: str) -> None:
        if not self.broken:
            self.broken = BrokenServerError(reason)
            self.stopped.set()
