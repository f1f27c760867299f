"""The image stage: a Dockerfile and its bases become an image in a registry, pinned by digest.

The registry is its own record: an image's tag bears the stage's key, so a fresh runner finds what
another one pushed and does nothing. A tag can be moved, so an image counts that is the one of the
receipt, or whose label bears the key as well.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from falconry.errors import FalconryError, ImageError
from falconry.files import write_text_whole
from falconry.findings import refuse
from falconry.image.output import ImageOutput
from falconry.image.place import Door, Place
from falconry.image.registry import RegistryClient, StoredImage
from falconry.image.source import KEY_LABEL, ImageSource
from falconry.pipeline import Receipt, Report, Stage, Workspace, read_receipt, what_changed
from falconry.progress import human_size

if TYPE_CHECKING:
    from docker.client import DockerClient

_TAG_DIGITS = 12
_LABELS = (
    KEY_LABEL,
    "org.opencontainers.image.title",
    "org.opencontainers.image.version",
    "org.opencontainers.image.licenses",
)
# Secrets of this machine's environment that might get into an image by mistake.
_SECRETS = ("OCIR_AUTH_TOKEN", "HF_TOKEN")


class ContainerImageStage(Stage):
    """Builds, checks and pushes a container image.

    Args:
        source: what it is built from.
        door: to the registry.
        workspace: where the receipt and the log stand.
        certificates: a bundle that downloads during the build trust.
    """

    name = "image"
    version = 1

    def __init__(
        self, source: ImageSource, door: Door, workspace: Workspace, certificates: Path | None
    ) -> None:
        self._source = source
        self._door = door
        self._workspace = workspace
        self._certificates = certificates
        self._receipt = workspace.build / "receipts" / f"{self.name}-{source.name}.json"
        self._stranger = False  # under the key's tag, when the registry was last asked

    @override
    def ingredients(self) -> Mapping[str, str]:
        return self._source.ingredients()

    @override
    def find(self, key: str) -> ImageOutput | None:
        if not self._door.is_open():
            return None
        # Who cannot be asked is told with its reason when there is something to push.
        with contextlib.suppress(FalconryError):
            return self._found(self._door.open(), key)
        return None

    @override
    def make(self, key: str, ingredients: Mapping[str, str], report: Report) -> ImageOutput:
        report("asking the registry", None)
        place = self._door.open()
        found = self._found(place, key)
        if found is None:
            found = self._output(place, key, self._build_and_push(place, key, report))
            self._remember(key, found)
        return found

    @override
    def reason(self, ingredients: Mapping[str, str]) -> str:
        if self._stranger:
            return "the registry has another image under its tag"
        receipt = read_receipt(self._receipt)
        if receipt is None:
            return "not pushed from here yet"
        if not self._door.is_open():
            return "the registry is not running"
        if receipt.ingredients == ingredients:
            return "the registry does not show it"
        return what_changed(receipt.ingredients, ingredients)

    @override
    def details(self, key: str) -> Sequence[str]:
        return (
            f"key        {key}",
            f"image      {self._source.name}:{self._tag(key)}",
            *(f"base       {base}" for base in self._source.bases.values()),
        )

    def _found(self, place: Place, key: str) -> ImageOutput | None:
        """What the registry has under this key's tag, unless it is another image."""
        repository = place.repository(self._source.name)
        client = RegistryClient(place.host, place.credentials(repository))
        stored = client.image(repository, self._tag(key))
        if stored is None:
            return None
        found = self._output(place, key, stored)
        receipt = read_receipt(self._receipt)
        if receipt and receipt.key == key:
            self._stranger = receipt.files.get("") != stored.digest
        else:
            self._stranger = client.labels(repository, stored).get(KEY_LABEL) != key
            if not self._stranger:
                self._remember(key, found)  # and so the label is read once
        return None if self._stranger else found

    def _remember(self, key: str, image: ImageOutput) -> None:
        """Writes the receipt of an image that is known to be this key's."""
        ingredients = self.ingredients()
        receipt = Receipt(self.name, key, ingredients, image.reference, {"": image.digest})
        write_text_whole(self._receipt, json.dumps(asdict(receipt), indent=1))

    def _build_and_push(self, place: Place, key: str, report: Report) -> StoredImage:
        # The SDK is imported here: doing nothing must not pay for it.
        from falconry.docker_engine.connection import connect
        from falconry.image.push import push

        reference = self._reference(place, key)
        with contextlib.closing(connect()) as client:
            self._build(client, reference, key, report)
            self._check(client, reference, report)
            report("making the repository", None)
            repository = place.repository(self._source.name)
            place.prepare(repository)
            return push(client, reference, lambda: place.credentials(repository), report)

    def _build(self, client: DockerClient, reference: str, key: str, report: Report) -> None:
        """Builds the image unless the engine has it from a run that was broken off later."""
        from falconry.docker_engine.images import image_labels
        from falconry.image.bases import bring_base
        from falconry.image.build import Build, build
        from falconry.image.labels import labels

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
        """Refuses what would fail after a long push, or must not be pushed at all."""
        from falconry.image.image_checks import check_image

        known = [os.environ[name] for name in _SECRETS if os.environ.get(name)]
        checked = check_image(client, reference, report, labels=_LABELS, known_secrets=known)
        refuse(checked.findings, ImageError, "this push", reference)
        for finding in checked.findings:
            if finding.state == "warning":
                self._workspace.progress.note(f"warning: {finding.text}; {finding.remedy}")
        size = f"at most {human_size(checked.size.most)} compressed"
        report(f"checked: {size}, {checked.size.layers} layers, no problem", None)

    def _output(self, place: Place, key: str, stored: StoredImage) -> ImageOutput:
        reference = self._reference(place, key)
        return ImageOutput(
            path=Path(),
            digest=stored.digest,
            summary=f"{reference}  {stored.digest[:15]}…  {human_size(stored.size)} compressed",
            reference=reference,
            kind="container",
            compressed_bytes=stored.size,
            labels=self._source.labels,
        )

    def _reference(self, place: Place, key: str) -> str:
        return f"{place.host}/{place.repository(self._source.name)}:{self._tag(key)}"

    def _tag(self, key: str) -> str:
        return f"{self._source.version}-{key[:_TAG_DIGITS]}"
