"""Pulls images into the Docker engine, with progress and Oracle's limit of time."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping
from typing import Any

from local_oci.limits import PULL_TIMEOUT_SECONDS
from local_oci.runtime.docker_engine import EngineError, connect, engine_errors_told
from local_oci.runtime.runner import PullError, PullReport
from local_oci.runtime.threads import run_abandonable

_COMPLETE = frozenset({"Download complete", "Pull complete"})


async def pull_image(
    repository: str, version: str, login: dict[str, str] | None, report: PullReport
) -> None:
    """Have the engine pull an image.

    Args:
        repository: the reference without what follows.
        version: tag or digest.
        login: `auth_config` of the SDK; None for what `docker login` left, if anything.
        report: told how far it is.

    Raises:
        PullError: the registry has no such image, refuses, or takes too long.
    """
    loop = asyncio.get_running_loop()
    pull = _Pull(repository, version, login)

    def tell(fraction: float) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(report, fraction)

    report(0.0)
    try:
        async with asyncio.timeout(PULL_TIMEOUT_SECONDS):
            await run_abandonable(lambda: pull.run(tell))
    except TimeoutError:
        raise PullError(
            f"{pull.reference} could not be pulled within {PULL_TIMEOUT_SECONDS / 60:g} minutes"
        ) from None
    except EngineError as error:
        raise PullError(str(error)) from error
    finally:
        pull.abandon()
    report(1.0)


def split_reference(reference: str) -> tuple[str, str]:
    """Repository, and tag or digest; a reference with both means its digest."""
    repository, _, digest = reference.partition("@")
    head, slash, name = repository.rpartition("/")
    name, _, tag = name.partition(":")
    return f"{head}{slash}{name}", digest or tag or "latest"


class _Pull:
    """One pull, which runs in a thread."""

    def __init__(self, repository: str, version: str, login: dict[str, str] | None) -> None:
        separator = "@" if ":" in version else ":"
        self.reference = f"{repository}{separator}{version}"
        self._source = (repository, version, login)
        self._abandoned = threading.Event()

    def abandon(self) -> None:
        """Nobody waits for it any more: the engine gives up when the connection is closed."""
        self._abandoned.set()

    def run(self, report: PullReport) -> None:
        from docker.errors import APIError

        repository, version, login = self._source
        progress = _Progress()
        client = connect(timeout=PULL_TIMEOUT_SECONDS)
        with contextlib.closing(client), engine_errors_told():
            try:
                for event in client.api.pull(
                    repository, tag=version, auth_config=login, stream=True, decode=True
                ):
                    if self._abandoned.is_set():
                        return
                    if "error" in event:
                        raise PullError(f"{self.reference} cannot be pulled: {event['error']}")
                    report(progress.fraction_after(event))
            except APIError as error:
                text = error.explanation or error
                raise PullError(f"{self.reference} cannot be pulled: {text}") from None


class _Progress:
    """How much of an image is here, by the engine's events.

    The size of a layer is known when its turn comes; until then it counts as an average one.
    """

    def __init__(self) -> None:
        self._layers: dict[str, tuple[float, float] | None] = {}
        self._fraction = 0.0

    def fraction_after(self, event: Mapping[str, Any]) -> float:
        """The fraction of bytes that are here, never less than before."""
        self._note(str(event.get("id", "")), str(event.get("status", "")), event)
        known = [sizes for sizes in self._layers.values() if sizes is not None]
        total = sum(size for _, size in known)
        if total:
            whole = total * len(self._layers) / len(known)
            here = sum(done for done, _ in known)
            self._fraction = max(self._fraction, min(here / whole, 1.0))
        return self._fraction

    def _note(self, layer: str, status: str, event: Mapping[str, Any]) -> None:
        detail = event.get("progressDetail") or {}
        if status in ("Pulling fs layer", "Waiting"):
            self._layers.setdefault(layer, None)
        elif status == "Downloading" and detail.get("total"):
            self._layers[layer] = (detail.get("current", 0), detail["total"])
        elif status in _COMPLETE and (sizes := self._layers.get(layer)):
            self._layers[layer] = (sizes[1], sizes[1])
