"""Old images that were built here and still fill the Docker engine; registries keep theirs."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass

from falconry.docker_engine.client import connect
from falconry.docker_engine.images import LocalImage, labelled_images, remove_image
from falconry.image.source import KEY_LABEL
from falconry.progress import human_size

_TITLE = "org.opencontainers.image.title"


@dataclass(frozen=True, slots=True)
class PrunedImage:
    """An image that is gone from the engine."""

    image: LocalImage

    def facts(self) -> dict[str, str | int]:
        """The image as plain values; `size` in bytes, times in ISO 8601."""
        return {
            "image": self._name(),
            "key": self.image.labels[KEY_LABEL],
            "size": self.image.size,
            "built_at": self.image.created.isoformat(timespec="seconds"),
        }

    def __str__(self) -> str:
        when = self.image.created.strftime("%Y-%m-%d %H:%M")
        return f"{self._name()}  {when} UTC  {human_size(self.image.size):>9}"

    def _name(self) -> str:
        return next(iter(self.image.names), self.image.labels.get(_TITLE, self.image.id))


def prune_images(keep: int, needed: Collection[str]) -> list[PrunedImage]:
    """Removes all images that were built here, but the newest and those in use.

    Args:
        keep: how many of the newest stay.
        needed: keys of images that stay, whatever their age. Those that a container is made of,
            such as a local deployment's, stay as well.

    Raises:
        MachineError: the engine does not answer.
    """
    with contextlib.closing(connect()) as client:
        return [
            PrunedImage(image)
            for image in labelled_images(client, KEY_LABEL)[keep:]
            if not image.in_use
            and image.labels[KEY_LABEL] not in needed
            and remove_image(client, image)
        ]
