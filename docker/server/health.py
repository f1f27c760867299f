"""Watches whether the server answers, so that a probe costs no generation."""

from __future__ import annotations

import asyncio
import logging

import aiohttp
from errors import ApiError, not_ready, stopping
from front_model import FrontModel, Generation, Sampling
from triton_client import TritonClient, TritonError

_STARTING_PERIOD_S = 0.1
_RUNNING_PERIOD_S = 0.5
_FIRST_GENERATION = Generation(("text_input", "Hello"), 1, (), Sampling(temperature=0))
_log = logging.getLogger("front")


class Health:
    """Follows a server from its start to its stop.

    A server with the front model is ready once that has answered: its first generation warms the
    engine up. Triton closes its port as soon as it receives SIGTERM (2.51).

    Attributes:
        stopped: set when Triton has begun to stop.
    """

    def __init__(self, triton: TritonClient, model: FrontModel) -> None:
        self._triton = triton
        self._model = model
        self._complaint = "Triton has not started"
        self._answers = False
        self.stopped = asyncio.Event()

    @property
    def error(self) -> ApiError | None:
        """Why the server is not ready; None once the first generation has succeeded."""
        if self.stopped.is_set():
            return stopping()
        return None if self._answers else not_ready(f"the server is not ready: {self._complaint}")

    async def watch(self) -> None:
        """Watches until Triton stops."""
        while not await self._has_answered():
            await asyncio.sleep(_STARTING_PERIOD_S)
        self._answers = True
        _log.info("ready")
        while await self._triton.listens():
            await asyncio.sleep(_RUNNING_PERIOD_S)
        self.stopped.set()

    async def _has_answered(self) -> bool:
        if not await self._triton.ready():
            return False
        try:
            if await self._model.served() is not None:
                await self._model.generate(_FIRST_GENERATION, "warm-up")
        except (TritonError, aiohttp.ClientError) as error:
            self._complain(f"its first generation failed: {error}")
            return False
        except (KeyError, ValueError) as error:
            self._complain(f"its front model has an unknown interface: {error!r}")
            return False
        return True

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            self._complaint = complaint
            _log.warning("not ready: %s", complaint)
