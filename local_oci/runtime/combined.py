"""Chooses the runner by the image's reference: process images first, then a registry's."""

from __future__ import annotations

from local_oci.runtime.docker_runner import DockerRunner
from local_oci.runtime.process import ProcessRunner
from local_oci.runtime.runner import Container, FoundImage, Launch, PullReport, Runner


class CombinedRunner:
    """Both kinds of images; see `runner.Runner`.

    Args:
        processes: runs process images.
        docker: runs the images of a registry.
    """

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
