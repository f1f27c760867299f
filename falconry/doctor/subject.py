"""What is examined: a profile, and what only other parts of Falconry know of it."""

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
        log_in: asks it something as the profile's user, and raises a FalconryError where it
            refuses; None where there is no login.
    """

    host: str
    log_in: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """What the checks look at.

    Attributes:
        settings: the profile.
        base_images: what the profile's server image is built from; none for one of the user's own.
        containers: whether the profile needs containers; if not, a local deployment does without
            them where there is no Docker engine.
        registry: gives the registry; None where the local cloud brings its own. It may raise a
            FalconryError, such as for a cloud whose configuration is missing.
    """

    settings: Settings
    base_images: tuple[str, ...]
    containers: bool
    registry: Callable[[], Registry | None]

    @property
    def needs_gpu(self) -> bool:
        """Whether engines are built for NVIDIA's GPUs, which takes one."""
        return self.settings.engine.builder == "tensorrt_llm"

    @property
    def needs_docker(self) -> bool:
        """Whether there is work that nothing but a Docker engine does."""
        return self.containers or self.needs_gpu

    def state_without_docker(self) -> State:
        """The state of a check that fails for want of what containers need."""
        return "failed" if self.needs_docker else "skipped"


def subject_of(settings: Settings, door: RegistryProvider) -> Subject:
    """What there is to look at for a profile.

    Args:
        settings: the profile.
        door: to the registry; it is opened only by the check, and only if nothing starts by it.

    Raises:
        SettingsError: the profile's image cannot be built for its settings alone.
    """
    own = settings.image.reference
    source = None if own else server_image(settings)
    name = source.name if source else "doctor"
    return Subject(
        settings=settings,
        base_images=tuple(source.bases.values()) if source else (),
        containers=settings.cloud.emulator is None or settings.image.run == "container",
        registry=lambda: _registry(door, name),
    )


def _registry(door: RegistryProvider, name: str) -> Registry | None:
    from falconry.image.registry import RegistryClient

    if not door.is_available():
        return None
    place = door.connect()

    def log_in() -> None:
        repository = place.repository(name)
        RegistryClient(place.host, place.credentials(repository)).digest(repository, "latest")

    return Registry(place.host, log_in)
