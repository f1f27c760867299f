"""The image stage: a Dockerfile becomes a pinned image in a registry.

An image's tag has the stage's key, so a new machine finds in the registry what another one pushed,
and does nothing. A tag can be moved, so the image must also be the receipt's or have the key in
its label.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from falconry.data_files import project_file
from falconry.docker_engine.client import connect
from falconry.docker_engine.images import LocalImage, image_labels, labelled_images, remove_image
from falconry.errors import FalconryError, ImageError
from falconry.files import atomic_write_text
from falconry.findings import refuse
from falconry.image.build import Build, bring_base, build, push
from falconry.image.image_checks import check_image, output_of_command
from falconry.image.output import ImageOutput
from falconry.image.parts import ListedImage, PartsFiles, read_installed, write_lists
from falconry.image.registry import ImageRegistry, RegistryClient, RegistryProvider, StoredImage
from falconry.image.server_images import (
    KEY_LABEL,
    LICENSES_LABEL,
    TITLE_LABEL,
    VERSION_LABEL,
    ImageSource,
    bases_of,
    labels,
)
from falconry.pipeline import Receipt, Report, Stage, Workspace, changed_inputs, read_receipt
from falconry.progress import human_size

if TYPE_CHECKING:
    from docker.client import DockerClient

_TAG_DIGITS = 12
_LABELS = (KEY_LABEL, TITLE_LABEL, VERSION_LABEL, LICENSES_LABEL)
# Lists an image's packages; it runs inside, by the Python that every image has for the front.
_LISTING = "falconry/image/installed.py"
_PYTHON = ("/opt/falconry/venv/bin/python", "-I", "-c")
# Secrets of this machine's environment that might get into an image by mistake.
_SECRETS = ("OCIR_AUTH_TOKEN", "HF_TOKEN")


class ContainerImageStage(Stage):
    """Builds, checks and pushes a container image.

    Downloads during the build trust the certificates.
    """

    name = "image"
    version = 1

    def __init__(
        self,
        source: ImageSource,
        provider: RegistryProvider,
        workspace: Workspace,
        certificates: Path | None,
    ) -> None:
        self._source = source
        self._provider = provider
        self._workspace = workspace
        self._certificates = certificates
        self._receipt = workspace.build / "receipts" / f"{self.name}-{source.name}.json"
        self._parts = PartsFiles.beside(self._receipt)
        self._tag_taken = False  # by another image, at the last look

    @override
    def inputs(self) -> Mapping[str, str]:
        return self._source.inputs()

    @override
    def find(self, key: str) -> ImageOutput | None:
        if not self._provider.is_available():
            return None
        # A registry that fails is reported when there is something to push.
        with contextlib.suppress(FalconryError):
            return self._found(self._provider.connect(), key)
        return None

    @override
    def make(self, key: str, inputs: Mapping[str, str], report: Report) -> ImageOutput:
        report("asking the registry", None)
        registry = self._provider.connect()
        found = self._found(registry, key)
        if found is None:
            found, labels_of_it = self._build_and_push(registry, key, report)
            self._remember(key, found, labels_of_it)
        return found

    @override
    def reason(self, inputs: Mapping[str, str]) -> str:
        if self._tag_taken:
            return "the registry has another image under its tag"
        receipt = read_receipt(self._receipt)
        if receipt is None:
            return "not pushed from here yet"
        if not self._provider.is_available():
            return "the registry is not running"
        if receipt.ingredients == inputs:
            return "the registry does not show it"
        return changed_inputs(receipt.ingredients, inputs)

    @override
    def details(self, key: str) -> Sequence[str]:
        return (
            f"key        {key}",
            f"image      {self._source.name}:{self._tag(key)}",
            *(f"base       {base}" for base in self._source.bases.values()),
        )

    def _found(self, registry: ImageRegistry, key: str) -> ImageOutput | None:
        """What the registry has under this key's tag, if it is ours."""
        repository = registry.repository(self._source.name)
        client = RegistryClient(registry.host, registry.credentials(repository))
        stored = client.image(repository, self._tag(key))
        if stored is None:
            return None
        found = self._output(registry, key, stored)
        receipt = read_receipt(self._receipt)
        if receipt and receipt.key == key:
            self._tag_taken = receipt.files.get("") != stored.digest
        else:
            theirs = client.labels(repository, stored)
            self._tag_taken = theirs.get(KEY_LABEL) != key
            if not self._tag_taken:
                self._remember(key, found, theirs)  # so that the labels are read only once
        return None if self._tag_taken else found

    def _remember(self, key: str, image: ImageOutput, its_labels: Mapping[str, str]) -> None:
        """Writes the receipt of an image of this key."""
        files = {"": image.digest, **self._parts.digests(key)}
        bases = bases_of(its_labels)
        receipt = Receipt(self.name, key, self.inputs(), image.reference, files, bases)
        atomic_write_text(self._receipt, json.dumps(asdict(receipt), indent=1))

    def _build_and_push(
        self, registry: ImageRegistry, key: str, report: Report
    ) -> tuple[ImageOutput, Mapping[str, str]]:
        """Gives the pushed image, and its labels."""
        reference = self._reference(registry, key)
        with contextlib.closing(connect()) as client:
            self._build(client, reference, key, report)
            self._check(client, reference, report)
            built = image_labels(client, reference)
            self._list_parts(client, reference, key, built)
            report("making the repository", None)
            repository = registry.repository(self._source.name)
            registry.prepare(repository)
            stored = push(client, reference, lambda: registry.credentials(repository), report)
        return self._output(registry, key, stored), built

    def _build(self, client: DockerClient, reference: str, key: str, report: Report) -> None:
        """Builds the image unless the engine has it from an interrupted run."""
        if image_labels(client, reference).get(KEY_LABEL) == key:
            return
        bases = {
            argument: bring_base(client, base, report)
            for argument, base in self._source.bases.items()
        }
        log = self._workspace.build / "logs" / f"{self.name}-{self._source.name}.log"
        every = labels(self._source, key, bases)
        build(client, Build(self._source, bases, every, self._certificates, reference, log), report)

    def _check(self, client: DockerClient, reference: str, report: Report) -> None:
        """Refuses what would fail after the push, or must not be pushed."""
        known = [os.environ[name] for name in _SECRETS if os.environ.get(name)]
        checked = check_image(client, reference, report, labels=_LABELS, known_secrets=known)
        refuse(checked.findings, ImageError, "this push", reference)
        for finding in checked.findings:
            if finding.state == "warning":
                self._workspace.progress.note(f"warning: {finding.text}; {finding.remedy}")
        size = f"at most {human_size(checked.size.most)} compressed"
        report(f"checked: {size}, {checked.size.layers} layers, no problem", None)

    def _list_parts(
        self, client: DockerClient, reference: str, key: str, built: Mapping[str, str]
    ) -> None:
        """Writes what is in the image, and under which licences."""
        script = project_file(_LISTING).read_text(encoding="utf-8")
        try:
            printed = output_of_command(client, reference, [*_PYTHON, script])
            installed = read_installed(printed, reference)
        except ImageError as error:
            self._workspace.progress.note(f"warning: {error.problem}")
            return
        source = self._source
        image = ListedImage(source.name, source.version, key, built, bases_of(built))
        write_lists(image, installed, self._parts)

    def _output(self, registry: ImageRegistry, key: str, stored: StoredImage) -> ImageOutput:
        reference = self._reference(registry, key)
        return ImageOutput(
            path=Path(),
            digest=stored.digest,
            summary=f"{reference}  {stored.digest[:15]}…  {human_size(stored.size)} compressed",
            reference=reference,
            kind="container",
            compressed_bytes=stored.size,
            labels=self._source.labels,
        )

    def _reference(self, registry: ImageRegistry, key: str) -> str:
        return f"{registry.host}/{registry.repository(self._source.name)}:{self._tag(key)}"

    def _tag(self, key: str) -> str:
        return f"{self._source.version}-{key[:_TAG_DIGITS]}"


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
        return next(iter(self.image.names), self.image.labels.get(TITLE_LABEL, self.image.id))


def prune_images(keep: int, needed: Collection[str]) -> list[PrunedImage]:
    """Removes images that were built here and the stages that they copy from, by their key.

    Args:
        keep: how many of the newest stay.
        needed: keys of images that stay, as do those of a container, such as a local deployment's.
    """
    with contextlib.closing(connect()) as client:
        images = labelled_images(client, KEY_LABEL)
        newest = list(dict.fromkeys(image.labels[KEY_LABEL] for image in images))[:keep]
        used = {image.labels[KEY_LABEL] for image in images if image.in_use}
        kept = {*newest, *used, *needed}
        return [
            PrunedImage(image)
            for image in images
            if image.labels[KEY_LABEL] not in kept and remove_image(client, image)
        ]
