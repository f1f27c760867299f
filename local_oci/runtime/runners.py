"""The runner for images in a registry, and the choice of a runner by an image's reference.

The engine's pull blocks and may take long, so it runs in a thread that is not waited for: those of
`asyncio.to_thread` are waited for when the event loop ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from local_oci.home import Home
from local_oci.limits import PULL_TIMEOUT_SECONDS
from local_oci.runtime.docker_container import Confinement, DockerContainer, start_container
from local_oci.runtime.docker_engine import (
    EngineError,
    connect,
    labels_of,
    remember_engine,
    translate_engine_errors,
)
from local_oci.runtime.process import ProcessRunner
from local_oci.runtime.runner import (
    Container,
    FoundImage,
    Launch,
    PullError,
    PullReport,
    RegistrySource,
    Runner,
)

_COMPLETE = frozenset({"Download complete", "Pull complete"})
Result = TypeVar("Result")


class CombinedRunner:
    """Both kinds of images; see `runner.Runner`."""

    def __init__(self, processes: ProcessRunner, docker: DockerRunner) -> None:
        self._processes = processes
        self._docker = docker

    async def find_image(self, reference: str) -> FoundImage | None:
        """The image that a reference means to the one or the other."""
        return await (await self._choose(reference)).find_image(reference)

    async def pull(self, reference: str, digest: str | None, report: PullReport) -> str:
        """Have an image ready; see `runner.Runner.pull`."""
        return await (await self._choose(reference)).pull(reference, digest, report)

    async def start(self, launch: Launch) -> Container:
        """Start a container; see `runner.Runner.start`."""
        return await (await self._choose(launch.image)).start(launch)

    async def _choose(self, reference: str) -> Runner:
        is_process_image = await self._processes.find_image(reference) is not None
        return (
            self._docker
            if not is_process_image and self._docker.is_for(reference)
            else self._processes
        )


class DockerRunner:
    """Runs the images of one registry; see `runner.Runner`."""

    def __init__(self, home: Home, source: RegistrySource, stop_grace: int) -> None:
        self._home = home
        self._source = source
        self._stop_grace = stop_grace

    def is_for(self, reference: str) -> bool:
        """Whether a reference names something in the registry, be it there or not."""
        registry = self._source.registry
        return registry is not None and reference.startswith(f"{registry.host}/")

    async def find_image(self, reference: str) -> FoundImage | None:
        """The image that the registry has under a reference."""
        registry = self._source.registry
        if registry is None or not self.is_for(reference):
            return None
        digest = await registry.digest_of(reference)
        return None if digest is None else FoundImage(digest)

    async def pull(self, reference: str, digest: str | None, report: PullReport) -> str:
        """Pull an image by digest. That a tag is looked up at each launch is inferred."""
        registry = self._source.registry
        if registry is None:
            raise PullError("the container registry is not running")
        digest = digest or await registry.digest_of(reference)
        if digest is None:
            raise PullError(f"{reference} is not in the registry any more")
        repository, _ = split_reference(reference)
        await pull_image(repository, digest, registry.login(), report)
        return f"{repository}@{digest}"

    async def start(self, launch: Launch) -> DockerContainer:
        """Start a container; see `runner.Runner.start`."""
        remember_engine(self._home)
        # A job's container may write to its files, as its image says who it is.
        confinement = Confinement(read_only_root=launch.serves)
        return await start_container(launch, confinement, labels_of(self._home), self._stop_grace)


async def pull_image(
    repository: str, version: str, login: dict[str, str] | None, report: PullReport
) -> None:
    """Have the engine pull an image.

    Args:
        repository: the reference without what follows.
        version: tag or digest.
        login: `auth_config` of the SDK; None for what `docker login` left, if anything.
        report: receives the progress.

    Raises:
        PullError: the registry has no such image, refuses, or takes too long.
    """
    loop = asyncio.get_running_loop()
    pull = _Pull(repository, version, login)

    def report_from_thread(fraction: float) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(report, fraction)

    report(0.0)
    try:
        async with asyncio.timeout(PULL_TIMEOUT_SECONDS):
            await run_abandonable(lambda: pull.run(report_from_thread))
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
        """Give up: the engine stops when the connection is closed."""
        self._abandoned.set()

    def run(self, report: PullReport) -> None:
        from docker.errors import APIError

        repository, version, login = self._source
        progress = _Progress()
        client = connect(timeout=PULL_TIMEOUT_SECONDS)
        with contextlib.closing(client), translate_engine_errors():
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
            expected = total * len(self._layers) / len(known)
            here = sum(done for done, _ in known)
            self._fraction = max(self._fraction, min(here / expected, 1.0))
        return self._fraction

    def _note(self, layer: str, status: str, event: Mapping[str, Any]) -> None:
        detail = event.get("progressDetail") or {}
        if status in ("Pulling fs layer", "Waiting"):
            self._layers.setdefault(layer, None)
        elif status == "Downloading" and detail.get("total"):
            self._layers[layer] = (detail.get("current", 0), detail["total"])
        elif status in _COMPLETE and (sizes := self._layers.get(layer)):
            self._layers[layer] = (sizes[1], sizes[1])


async def run_abandonable(function: Callable[[], Result]) -> Result:
    """Run a function in a thread that continues alone if the caller is cancelled."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def run() -> None:
        settled: Future[Result] = Future()
        try:
            settled.set_result(function())
        except Exception as error:
            settled.set_exception(error)
        with contextlib.suppress(RuntimeError):  # the loop is closed
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
