"""The image stage that a profile selects, and two without a build."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from typing_extensions import override

from falconry.digests import value_digest
from falconry.docker_engine.configuration import docker_login
from falconry.docker_engine.images import ImageReference
from falconry.errors import FalconryError, ImageError, SettingsError
from falconry.image.output import ImageKind, ImageOutput, choose
from falconry.image.parts import (
    ListedImage,
    PartsFiles,
    installed_here,
    is_list_of,
    write_lists,
)
from falconry.image.process_image import is_prepared, prepare_process_image
from falconry.image.registry import RegistryClient, RegistryProvider
from falconry.image.server_images import (
    CPU_TRITON,
    TRITON_LABEL,
    certificate_bundle,
    cpu_packages,
    server_files,
    server_image,
)
from falconry.pipeline import Report, Stage, Workspace
from falconry.settings import Settings

_PROCESS_IMAGE = "process-image"


class GivenImageStage(Stage):
    """The user's own image: looked up in its registry and pinned.

    The provider's registry gives the login where the image is there.
    """

    name = "image"
    version = 1

    def __init__(self, reference: str, provider: RegistryProvider) -> None:
        self._reference = ImageReference.parse(reference)
        self._provider = provider

    @override
    def inputs(self) -> Mapping[str, str]:
        return {"reference": str(self._reference)}

    @override
    def find(self, key: str) -> ImageOutput | None:
        with contextlib.suppress(FalconryError):
            return self._look_up()
        return None

    @override
    def make(self, key: str, inputs: Mapping[str, str], report: Report) -> ImageOutput:
        found = self._look_up()
        if found is None:
            raise ImageError(
                "the registry has no such image, or none that this login may see",
                where=str(self._reference),
                remedy="correct image.reference, or leave it out to have one built",
            )
        return found

    @override
    def reason(self, inputs: Mapping[str, str]) -> str:
        return "the registry does not show it"

    def _look_up(self) -> ImageOutput | None:
        wanted = self._reference
        registry = self._provider.connect()
        ours = registry.host == wanted.host()
        login = registry.credentials(wanted.repository) if ours else docker_login(wanted.host())
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


class ProcessImageStage(Stage):
    """The process image: the wheel's server in place of a container image.

    `why` says what this machine lacks for containers, if a process image was not requested.
    """

    name = "image"
    version = 1

    def __init__(self, reference: str, directory: Path, why: str) -> None:
        self._reference = reference
        self._directory = directory
        self._why = why
        receipts = directory.parent / "receipts"
        self._parts = PartsFiles.beside(receipts / f"{self.name}-{directory.name}.json")

    @override
    def inputs(self) -> Mapping[str, str]:
        files = {name: value_digest(data.decode()) for name, data in server_files().items()}
        return {"reference": self._reference, "server": value_digest(files)}

    @override
    def find(self, key: str) -> ImageOutput | None:
        listed = is_list_of(self._parts.parts, key)
        return self._output(key) if listed and is_prepared(self._directory) else None

    @override
    def make(self, key: str, inputs: Mapping[str, str], report: Report) -> ImageOutput:
        prepare_process_image(self._directory)
        name, labels = self._directory.name, {TRITON_LABEL: CPU_TRITON}
        image = ListedImage(name, CPU_TRITON, key, labels, bases={})
        write_lists(image, installed_here(cpu_packages()), self._parts)
        return self._output(key)

    @override
    def reason(self, inputs: Mapping[str, str]) -> str:
        return "not made yet"

    def _output(self, key: str) -> ImageOutput:
        why = f" ({self._why})" if self._why else ""
        return ImageOutput(
            path=self._directory,
            digest=f"sha256:{key}",
            summary=f"process image, in place of a container{why}",
            reference=self._reference,
            kind="process",
        )


def image_stage(settings: Settings, workspace: Workspace, provider: RegistryProvider) -> Stage:
    """The stage for the image that deployments run."""
    wanted = settings.image
    if wanted.reference:
        return GivenImageStage(wanted.reference, provider)
    may_choose = settings.cloud.emulator and not wanted.compose
    choice = choose(wanted) if may_choose else ImageKind("container")
    if choice.kind == "process":
        if wanted.process_image is None:
            raise SettingsError("a process image needs a name", where="image.process_image")
        directory = workspace.build / _PROCESS_IMAGE
        return ProcessImageStage(wanted.process_image, directory, choice.reason)
    # The other kinds need none of what builds and pushes an image.
    from falconry.image.stage import ContainerImageStage

    bundle = certificate_bundle(wanted.ca_bundle)
    return ContainerImageStage(server_image(settings), provider, workspace, bundle)
