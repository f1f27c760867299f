"""What the doctor examines: a profile, its base images and its registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from falconry.findings import State
from falconry.image.registry import RegistryProvider
from falconry.image.server_images import server_image
from falconry.settings import Settings


@dataclass(frozen=True, slots=True)
class Registry:
    """The registry that server images are pushed to.

    Attributes:
        host: with a port where it has one.
        log_in: sends a request as the profile's user; raises a FalconryError if it is refused.
            None if there is no login.
    """

    host: str
    log_in: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """What the checks examine.

    Attributes:
        base_images: what the profile's server image is built from; empty for a user's own image.
        containers: whether the profile needs containers; if not, local deployments run without
            them if there is no Docker engine.
        registry: returns the registry; None if the local cloud brings its own. Raises a
            FalconryError, for instance if the cloud's configuration is missing.
    """

    settings: Settings
    base_images: tuple[str, ...]
    containers: bool
    registry: Callable[[], Registry | None]

    @property
    def needs_gpu(self) -> bool:
        """Whether engines are built for NVIDIA's GPUs, on a GPU."""
        return self.settings.engine.builder == "tensorrt_llm"

    @property
    def needs_docker(self) -> bool:
        """Whether some work needs a Docker engine."""
        return self.containers or self.needs_gpu

    def state_without_docker(self) -> State:
        """Returns the state of a check that containers need."""
        return "failed" if self.needs_docker else "skipped"


def subject_of(settings: Settings, provider: RegistryProvider) -> Subject:
    """Makes the subject of a profile.

    Args:
        settings: the profile.
        provider: of the registry; only the check connects, and only to a running registry.

    Raises:
        SettingsError: the profile's settings do not allow its image to be built.
    """
    own = settings.image.reference
    source = None if own else server_image(settings)
    name = source.name if source else "doctor"
    return Subject(
        settings=settings,
        base_images=tuple(source.bases.values()) if source else (),
        containers=settings.cloud.emulator is None or settings.image.run == "container",
        registry=lambda: _registry(provider, name),
    )


def _registry(provider: RegistryProvider, name: str) -> Registry | None:
    from falconry.image.registry import RegistryClient

    if not provider.is_available():
        return None
    registry = provider.connect()

    def log_in() -> None:
        repository = registry.repository(name)
        RegistryClient(registry.host, registry.credentials(repository)).digest(repository, "latest")

    return Registry(registry.host, log_in)
