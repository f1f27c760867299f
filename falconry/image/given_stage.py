"""The image stage for an image of the user's own: looked up in its registry and pinned."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from typing_extensions import override

from falconry.docker_engine.references import ImageReference
from falconry.errors import FalconryError, ImageError
from falconry.image.credentials import docker_login
from falconry.image.output import ImageOutput
from falconry.image.place import Door
from falconry.image.registry import RegistryClient
from falconry.pipeline import Report, Stage


class GivenImageStage(Stage):
    """An image of the user's own: looked up in its registry and pinned, never built.

    Args:
        reference: its name with a tag or a digest.
        door: to the registry whose login is used where the image is there.
    """

    name = "image"
    version = 1

    def __init__(self, reference: str, door: Door) -> None:
        self._reference = ImageReference.parse(reference)
        self._door = door

    @override
    def ingredients(self) -> Mapping[str, str]:
        return {"reference": str(self._reference)}

    @override
    def find(self, key: str) -> ImageOutput | None:
        with contextlib.suppress(FalconryError):
            return self._look_up()
        return None

    @override
    def make(self, key: str, ingredients: Mapping[str, str], report: Report) -> ImageOutput:
        found = self._look_up()
        if found is None:
            raise ImageError(
                "the registry has no such image, or none that this login may see",
                where=str(self._reference),
                remedy="correct image.reference, or leave it out to have one built",
            )
        return found

    @override
    def reason(self, ingredients: Mapping[str, str]) -> str:
        return "the registry does not show it"

    def _look_up(self) -> ImageOutput | None:
        wanted = self._reference
        place = self._door.open()
        ours = place.host == wanted.host()
        login = place.credentials(wanted.repository) if ours else docker_login(wanted.host())
        client = RegistryClient(wanted.host(), login)
        stored = client.image(wanted.repository, wanted.version)
        if stored is None:
            return None
        tagged = ImageReference(wanted.registry, wanted.repository, wanted.tag)
        return ImageOutput(
            path=Path(),
            digest=stored.digest,
            summary=f"{tagged}  {stored.digest[:15]}…  given",
            reference=str(tagged),
            kind="container",
            # An image of several platforms has a list in place of layers.
            compressed_bytes=stored.size or None,
        )
