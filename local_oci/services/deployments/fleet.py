"""The containers that run: starting them until they are healthy, swapping, stopping."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from local_oci.home import Home, disk_full, is_disk_full
from local_oci.limits import DEFAULT_SHM_SIZE, PREDICT_TIMEOUT_SECONDS
from local_oci.runtime.artifact import ArtifactError, remove_tree, unpack
from local_oci.runtime.health import (
    EndedError,
    UnhealthyError,
    client_of,
    wait_for_failure,
    wait_until_healthy,
)
from local_oci.runtime.runner import (
    Container,
    Launch,
    OutputSink,
    PullError,
    Runner,
    StartError,
    Stream,
)
from local_oci.services.deployments.models import ContainerConfiguration
from local_oci.services.deployments.rules import health_path
from local_oci.services.work_requests.engine import WorkError

Step = Callable[[str, float], None]

_TEXT = "Pulling the container image"
# Each step is an entry in the work request's log, so there are few.
_QUARTERS = 4
# Oracle's own words for whatever goes wrong before a deployment is ACTIVE.
_BOOTSTRAP = "Errors occurred while bootstrapping the Model Deployment"

_log = logging.getLogger("local_oci.deployments")


class PullSteps:
    """Reports a pull's beginning and its quarters, each once."""

    def __init__(self, step: Step, first: float, last: float) -> None:
        self._step = step
        self._first = first
        self._last = last
        self._reported = -1

    def report(self, fraction: float) -> None:
        """The pull is so far, from 0 to 1."""
        quarter = int(fraction * _QUARTERS)
        if quarter > self._reported:
            self._reported = quarter
            done = quarter / _QUARTERS
            message = f"{_TEXT}: {done:.0%}" if quarter else _TEXT
            self._step(message, self._first + done * (self._last - self._first))


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """A container to start for a deployment.

    Args:
        deployment_id: OCID of the deployment.
        tenancy: OCID of the tenancy.
        container: what to run.
        artifact: the model's artifact.
        output: receives the container's lines.
        unhealthy_seconds: when to give it up as never healthy, whatever its health check says;
            None to trust the health check.
    """

    deployment_id: str
    tenancy: str
    container: ContainerConfiguration
    artifact: Path
    output: OutputSink
    unhealthy_seconds: float | None = None


class RunningContainer:
    """A container of a deployment that was healthy, with the requests that are in it."""

    def __init__(self, container: Container, directory: Path, health_path: str) -> None:
        self._container = container
        self._directory = directory
        self._health_path = health_path
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.stopping = False
        self.client = client_of(container.server)

    @property
    def answering(self) -> bool:
        """Whether there is a process to answer."""
        return self._container.running

    @contextmanager
    def lease(self) -> Iterator[httpx.AsyncClient]:
        """Use the container for one request; it is not stopped meanwhile, if time allows."""
        self._in_flight += 1
        self._idle.clear()
        try:
            yield self.client
        finally:
            self._in_flight -= 1
            if self._in_flight == 0:
                self._idle.set()

    async def wait_for_failure(self) -> str:
        """Wait until the container has ended or is not healthy any more; say which."""
        return await wait_for_failure(self._container, self._health_path, lambda: self.stopping)

    async def drain(self) -> None:
        """Wait for the requests that are in the container, as long as a predict may take."""
        try:
            await asyncio.wait_for(self._idle.wait(), PREDICT_TIMEOUT_SECONDS)
        except TimeoutError:
            _log.warning("stopping a container with %d requests in it", self._in_flight)

    async def crash(self) -> None:
        """End the container as if it had crashed."""
        await self._container.stop()

    async def stop(self) -> None:
        """Stop the container and remove its files."""
        self.stopping = True
        await self._container.stop()
        await self.client.aclose()
        await asyncio.to_thread(remove_tree, self._directory)


class Fleet:
    """The running containers of all deployments."""

    def __init__(self, home: Home, runner: Runner, start_timeout: float) -> None:
        self._home = home
        self._runner = runner
        self._start_timeout = start_timeout
        self._running: dict[str, RunningContainer] = {}

    def get(self, deployment_id: str) -> RunningContainer | None:
        """The container that answers for a deployment."""
        return self._running.get(deployment_id)

    async def launch(self, request: LaunchRequest, step: Step) -> RunningContainer:
        """Start a container and wait until it is healthy; it does not answer for anyone yet.

        Raises:
            WorkError: it could not be started or did not become healthy; nothing is left.
        """
        directory = self._home.deployments / f"{request.deployment_id}.{secrets.token_hex(4)}"
        try:
            directory.mkdir()
            return await self._launch_in(directory, request, step)
        except OSError as error:
            await asyncio.to_thread(remove_tree, directory)
            if not is_disk_full(error):
                raise
            text = str(disk_full(Path(error.filename or directory)))
            raise WorkError("InsufficientStorage", f"{_BOOTSTRAP}: {text}.") from error
        except BaseException:
            await asyncio.to_thread(remove_tree, directory)
            raise

    async def _launch_in(
        self, directory: Path, request: LaunchRequest, step: Step
    ) -> RunningContainer:
        image = await self._pull(request.container, step)
        step("Unpacking the model artifact", 30)
        model = directory / "model"
        unpacking = asyncio.create_task(asyncio.to_thread(unpack, request.artifact, model))
        try:
            await asyncio.shield(unpacking)
        except asyncio.CancelledError:
            await asyncio.wait({unpacking})  # a thread cannot be stopped, and it still writes
            raise
        except ArtifactError as error:
            raise WorkError("InvalidArtifact", f"{_BOOTSTRAP}: {error}.") from error
        step("Starting container", 40)
        try:
            container = await self._runner.start(self._launch_of(request, image, directory, model))
        except StartError as error:
            raise WorkError("ContainerStartFailed", f"{_BOOTSTRAP}: {error}.") from error
        step("Waiting for the container to be healthy", 60)
        try:
            await self._wait_until_healthy(container, request)
        except BaseException:
            await container.stop()
            raise
        variables = request.container.environment_variables
        return RunningContainer(container, directory, health_path(variables))

    async def _pull(self, container: ContainerConfiguration, step: Step) -> str:
        steps = PullSteps(step, first=10, last=30)
        try:
            return await self._runner.pull(container.image, container.image_digest, steps.report)
        except PullError as error:
            raise WorkError("ImagePullFailed", f"{_BOOTSTRAP}: {error}.") from error

    def _launch_of(
        self, request: LaunchRequest, image: str, directory: Path, model: Path
    ) -> Launch:
        configuration = request.container
        variables = configuration.environment_variables

        def output(stream: Stream, lines: list[str]) -> None:
            self.add_output(request.deployment_id, lines)
            request.output(stream, lines)

        return Launch(
            image=image,
            entrypoint=configuration.entrypoint,
            cmd=configuration.cmd,
            environment=variables
            | service_variables(request.deployment_id, request.tenancy, configuration),
            server_port=configuration.server_port,
            health_port=configuration.health_check_port,
            model=model,
            directory=directory,
            shm_size=variables.get("SHM_SIZE", DEFAULT_SHM_SIZE),
            output=output,
        )

    def add_output(self, deployment_id: str, lines: list[str]) -> None:
        """Keep what a deployment's containers wrote, or what became of them."""
        with self.output_file(deployment_id).open("a") as file:
            file.writelines(f"{line}\n" for line in lines)

    def output_file(self, deployment_id: str) -> Path:
        """Where people find what a deployment's containers wrote."""
        return self._home.outputs / f"{deployment_id}.log"

    async def _wait_until_healthy(self, container: Container, request: LaunchRequest) -> None:
        configuration = request.container
        path = health_path(configuration.environment_variables)
        try:
            if request.unhealthy_seconds is not None:
                await asyncio.sleep(request.unhealthy_seconds)
                raise UnhealthyError("an injected fault")
            await wait_until_healthy(container, path, self._start_timeout)
        except EndedError as ended:
            raise _exited(str(ended), container.last_stderr) from None
        except UnhealthyError as problem:
            raise WorkError(
                "HealthCheckTimeout",
                f"Workflow timed out. Maximum runtime was: {self._start_timeout / 60:g} minutes. "
                f"(GET {path} on port {configuration.health_check_port}: {problem})",
            ) from None

    async def install(self, deployment_id: str, running: RunningContainer) -> None:
        """Let a container answer for a deployment from now on, then end its predecessor."""
        predecessor = self._running.get(deployment_id)
        self._running[deployment_id] = running
        if predecessor is not None:
            await predecessor.drain()
            await predecessor.stop()

    async def remove(self, deployment_id: str) -> None:
        """Stop the container of a deployment, if there is one."""
        running = self._running.pop(deployment_id, None)
        if running is not None:
            await running.stop()

    async def shutdown(self) -> None:
        """Stop all containers, side by side."""
        await asyncio.gather(*(self.remove(deployment_id) for deployment_id in [*self._running]))


def service_variables(
    deployment_id: str, tenancy: str, configuration: ContainerConfiguration
) -> dict[str, str]:
    """The variables that the service itself sets (mod-dep-byoc-variables.htm)."""
    return {
        "MODEL_DEPLOYMENT_OCID": deployment_id,
        "TENANCY_OCID": tenancy,
        "CONTAINER_CUSTOM_IMAGE": configuration.image,
    }


def _exited(how: str, stderr: list[str]) -> WorkError:
    lines = "\n".join(stderr) if stderr else "(none)"
    return WorkError(
        "ContainerExited",
        f"{_BOOTSTRAP}: the container {how} before it was healthy. "
        f"Last lines of its standard error:\n{lines}",
    )
