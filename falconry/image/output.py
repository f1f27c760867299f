"""What the image stage gives to those after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from falconry.pipeline import Output


@dataclass(frozen=True, slots=True)
class ImageOutput(Output):
    """An image that deployments can name.

    Attributes:
        reference: its name with its tag.
        kind: a container image in a registry, pinned by `digest`; or a process image, its
            stand-in, whose directory is `path`.
        compressed_bytes: in its registry; None where that was not read.
        labels: what it says of itself; None where they were not read.
    """

    reference: str
    kind: Literal["container", "process"]
    compressed_bytes: int | None = None
    labels: Mapping[str, str] | None = None

    @property
    def pinned(self) -> str:
        """The reference as it is told apart from all other images."""
        return f"{self.reference}@{self.digest}"


def image_of(made: Mapping[str, Output]) -> ImageOutput:
    """The image among the outputs that a stage is made from."""
    image = made["image"]
    if not isinstance(image, ImageOutput):
        raise TypeError("the image stage gave another output")
    return image
