"""The image stage: a Dockerfile and its bases become an image in a registry, pinned by digest.

The registry is its own record: an image's tag has the stage's key, so a fresh runner finds what
another one pushed and does nothing. A tag can be moved, so only an image counts that is the one of
the receipt, or whose label has the key as well.
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

from falconry.docker_engine.client import connect
from falconry.docker_engine.images import LocalImage, labelled_images, remove_image
from falconry.errors import FalconryError, ImageError
from falconry.files import atomic_write_text
from falconry.findings import refuse
from falconry.image.output import ImageOutput
from falconry.image.registry import ImageRegistry, RegistryClient, RegistryProvider, StoredImage
from falconry.image.server_images import KEY_LABEL, ImageSource
from falconry.pipeline import Receipt, Report, Stage, Workspace, changed_inputs, read_receipt
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
_TITLE = "org.opencontainers.image.title"


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
        self,
        source: ImageSource,
        door: RegistryProvider,
        workspace: Workspace,
        certificates: Path | None,
    ) -> None:
        self._source = source
        self._door = door
        self._workspace = workspace
        self._certificates = certificates
        self._receipt = workspace.build / "receipts" / f"{self.name}-{source.name}.json"
        self._stranger = False  # under the key's tag, when the registry was last asked

    @override
    def inputs(self) -> Mapping[str, str]:
        return self._source.inputs()

    @override
    def find(self, key: str) -> ImageOutput | None:
        if not self._door.is_available():
            return None
        # Who cannot be asked is told with its reason when there is something to push.
        with contextlib.suppress(FalconryError):
            return self._found(self._door.open(), key)
        return None

    @override
    def make(self, key: str, inputs: Mapping[str, str], report: Report) -> ImageOutput:
        report("asking the registry", None)
        place = self._door.open()
        found = self._found(place, key)
        if found is None:
            found = self._output(place, key, self._build_and_push(place, key, report))
            self._remember(key, found)
        return found

    @override
    def reason(self, inputs: Mapping[str, str]) -> str:
        if self._stranger:
            return "the registry has another image under its tag"
        receipt = read_receipt(self._receipt)
        if receipt is None:
            return "not pushed from here yet"
        if not self._door.is_available():
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

    def _found(self, place: ImageRegistry, key: str) -> ImageOutput | None:
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
        inputs = self.inputs()
        receipt = Receipt(self.name, key, inputs, image.reference, {"": image.digest})
        atomic_write_text(self._receipt, json.dumps(asdict(receipt), indent=1))

    def _build_and_push(self, place: ImageRegistry, key: str, report: Report) -> StoredImage:
        # The SDK is imported here: doing nothing must not pay for it.
        from falconry.docker_engine.client import connect
        from falconry.image.build import push

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
        from falconry.image.build import Build, bring_base, build
        from falconry.image.server_images import labels

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

    def _output(self, place: ImageRegistry, key: str, stored: StoredImage) -> ImageOutput:
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

    def _reference(self, place: ImageRegistry, key: str) -> str:
        return f"{place.host}/{place.repository(self._source.name)}:{self._tag(key)}"

    def _tag(self, key: str) -> str:
        return f"{self._source.version}-{key[:_TAG_DIGITS]}"


# --- pruning of old images in the Docker engine -----------------------------------------------


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
