"""The image stage on a machine without a Docker engine: the process image, made in place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from typing_extensions import override

from falconry.digests import value_digest
from falconry.image.output import ImageOutput
from falconry.image.process_image import is_prepared, prepare_process_image
from falconry.image.source import server_files
from falconry.pipeline import Report, Stage


class ProcessImageStage(Stage):
    """The process image, the stand-in for a container image: a launcher for the wheel's server.

    Args:
        reference: the name by which deployments ask the emulator for it.
        directory: where it stands.
        why: what this machine lacks for containers; empty where a process image was asked for.
    """

    name = "image"
    version = 1

    def __init__(self, reference: str, directory: Path, why: str) -> None:
        self._reference = reference
        self._directory = directory
        self._why = why

    @override
    def ingredients(self) -> Mapping[str, str]:
        files = {name: value_digest(data.decode()) for name, data in server_files().items()}
        return {"reference": self._reference, "server": value_digest(files)}

    @override
    def find(self, key: str) -> ImageOutput | None:
        return self._output(key) if is_prepared(self._directory) else None

    @override
    def make(self, key: str, ingredients: Mapping[str, str], report: Report) -> ImageOutput:
        prepare_process_image(self._directory)
        return self._output(key)

    @override
    def reason(self, ingredients: Mapping[str, str]) -> str:
        return "not made yet"

    def _output(self, key: str) -> ImageOutput:
        why = f" ({self._why})" if self._why else ""
        return ImageOutput(
            path=self._directory,
            digest=f"sha256:{key}",
            summary=f"process image, a stand-in for a container{why}",
            reference=self._reference,
            kind="process",
        )
