"""The runner for images in a registry: containers of the Docker engine."""

from __future__ import annotations

from local_oci.home import Home
from local_oci.runtime.docker_container import Confinement, DockerContainer, start_container
from local_oci.runtime.docker_leftovers import labels_of, remember_engine
from local_oci.runtime.runner import FoundImage, Launch, PullError, PullReport, RegistrySource
from local_oci.runtime.runners import pull_image, split_reference


class DockerRunner:
    """Runs the images of one registry; see `runner.Runner`.

    Args:
        home: the cloud's directory.
        source: has the registry where the images are, from when it is there.
        stop_grace: seconds between SIGTERM and SIGKILL when a container is stopped.
    """

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
        return await start_container(launch, Confinement(), labels_of(self._home), self._stop_grace)
