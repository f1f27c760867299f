"""The image that is checked, as the Docker engine knows it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from local_oci.contract_check.leftovers import owner_labels
from local_oci.runtime.docker_engine import connect, engine_errors_told

_ROOT = frozenset({"", "0", "root"})
_CURL_SECONDS = 30


@dataclass(frozen=True, slots=True)
class EngineImage:
    """What matters of an image.

    Args:
        id: by which the engine finds it, whatever its reference means by then.
        platform: such as "linux/amd64".
        user: its USER; empty for root.
        command: its ENTRYPOINT and CMD.
    """

    id: str
    platform: str
    user: str
    command: tuple[str, ...]

    @property
    def runs_as_root(self) -> bool:
        """Whether its containers run as root."""
        return self.user.partition(":")[0] in _ROOT


def find_image(reference: str) -> EngineImage | None:
    """An image that the engine has. Blocks.

    Raises:
        EngineError: no engine answers.
    """
    from docker.errors import APIError

    with contextlib.closing(connect()) as client, engine_errors_told():
        try:
            attributes: dict[str, Any] = client.images.get(reference).attrs
        except APIError:  # unknown, or no reference at all
            return None
    configuration = attributes.get("Config") or {}
    return EngineImage(
        id=attributes["Id"],
        platform=f"{attributes['Os']}/{attributes['Architecture']}",
        user=configuration.get("User") or "",
        command=(*(configuration.get("Entrypoint") or ()), *(configuration.get("Cmd") or ())),
    )


def has_curl(image: EngineImage) -> bool:
    """Whether curl can be run in a container of the image. Blocks.

    Raises:
        EngineError: no engine answers.
    """
    from docker.errors import APIError

    with contextlib.closing(connect()) as client, engine_errors_told():
        container = client.containers.create(
            image.id,
            entrypoint=["curl"],
            command=["--version"],
            network_disabled=True,
            labels=owner_labels(),
        )
        try:
            container.start()
            return bool(container.wait(timeout=_CURL_SECONDS)["StatusCode"] == 0)
        except APIError:
            return False
        finally:
            container.remove(force=True, v=True)
