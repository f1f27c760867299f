"""Builds an image with the Docker engine, and pushes it."""

from __future__ import annotations

import io
import os
import re
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from falconry.data_files import project_file
from falconry.docker_engine.client import translate_docker_errors
from falconry.docker_engine.configuration import Credentials
from falconry.docker_engine.images import (
    ImageReference,
    LayerProgress,
    has_image,
    image_digest,
    image_id,
    pull,
)
from falconry.docker_engine.registry_errors import TransientError, explain
from falconry.errors import ImageError
from falconry.files import translate_disk_errors
from falconry.image.registry import RegistryClient, StoredImage
from falconry.image.server_images import MADE_HERE, Base, ImageSource
from falconry.pipeline import Report

if TYPE_CHECKING:
    from docker.client import DockerClient

_SCRIPT = "scripts/base_image.sh"

# A stage of a Dockerfile: its base, its name if any, and what follows until the next.
_STAGE = re.compile(
    r"^FROM +(\S+)(?: +AS +(\S+))? *$(.*?)(?=^FROM |\Z)", re.MULTILINE | re.DOTALL | re.IGNORECASE
)
_INSTRUCTION = re.compile(r"^[A-Z]+ ", re.MULTILINE)
_STEP = re.compile(r"Step (\d{1,4})/([1-9]\d{0,3}) : (.*)", re.ASCII)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# The engine's own lines between a step's output.
_OF_THE_ENGINE = re.compile(r" *---> |Removing intermediate container ")
_KEPT_LINES = 3
_SHOWN_CHARACTERS = 60
# Docker's predefined arguments: they reach RUN lines and no image's history
# (docs.docker.com, Dockerfile reference, "Predefined ARGs").
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "FTP_PROXY", "ALL_PROXY")
_TRIES = 4
_FIRST_PAUSE_S = 1.0


def bring_base(client: DockerClient, reference: str, report: Report) -> Base:
    """Makes or pulls a base image that the engine lacks, and resolves it to a digest.

    `falconry-base:...` is made here by scripts/base_image.sh.
    """
    if not has_image(client, reference):
        if ImageReference.parse(reference).name == MADE_HERE:
            _make(reference, report)
        else:
            pull(client, reference, lambda done: report(f"pulling {reference}", done))
    name = reference.partition("@")[0]
    if digest := image_digest(client, reference):
        return Base(name, digest, in_registry=True)
    if identity := image_id(client, reference):
        return Base(name, identity, in_registry=False)
    raise ImageError(
        "the Docker engine no longer has the base image", where=reference, remedy="run again"
    )


def _make(reference: str, report: Report) -> None:
    report("making the base image, about a minute", None)
    result = subprocess.run(
        ["sh", str(project_file(_SCRIPT)), reference],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        lines = (result.stderr.strip() or result.stdout.strip()).splitlines()
        raise ImageError(
            f"the base image could not be made ({lines[-1] if lines else 'no reason given'})",
            where=reference,
            remedy="run scripts/base_image.sh as root, or take another Debian 12:"
            " SET=image.base=debian:bookworm-slim",
        )


@dataclass(frozen=True, slots=True)
class Build:
    """One build.

    Attributes:
        bases: the resolved base images by argument.
        certificates: a bundle for downloads; it is in no layer of the image.
    """

    source: ImageSource
    bases: Mapping[str, Base]
    labels: Mapping[str, str]
    certificates: Path | None
    tag: str
    log: Path


def build(client: DockerClient, order: Build, report: Report) -> None:
    """Builds an image, and names the stages that it copies from `<tag>-<stage>`.

    The engine's cache has an interrupted build's steps. A named stage is the cache of the next
    build, and is removed with its image; without a name and labels it would stay for ever.

    Raises:
        ImageError: a step failed; the message has its last lines.
    """
    from docker.errors import APIError

    order.log.parent.mkdir(parents=True, exist_ok=True)
    with translate_disk_errors(order.log), order.log.open("w", encoding="utf-8") as log:
        context = _context(order)
        with translate_docker_errors():
            for stage in (*copied_stages(order.source.dockerfile), None):
                try:
                    events = client.api.build(
                        fileobj=io.BytesIO(context),
                        custom_context=True,
                        tag=f"{order.tag}-{stage}" if stage else order.tag,
                        target=stage,
                        buildargs={**_base_arguments(order.bases), **_proxies()},
                        labels=dict(order.labels),
                        rm=True,
                        forcerm=True,  # a failed step's container goes as well
                        decode=True,
                    )
                    _follow(events, order, log, report)
                except APIError as error:
                    raise ImageError(
                        f"the Docker engine refuses the build ({error.explanation or error})",
                        where=order.tag,
                    ) from None


def copied_stages(dockerfile: str) -> list[str]:
    """The stages with steps of their own that no other stage is built from."""
    stages = [(found[1], found[2], found[3]) for found in _STAGE.finditer(dockerfile)]
    bases = {base for base, _, _ in stages}
    return [
        name
        for _, name, steps in stages
        if name and name not in bases and _INSTRUCTION.search(steps)
    ]


def _context(order: Build) -> bytes:
    try:
        return order.source.context(order.certificates)
    except OSError as error:
        raise ImageError(
            f"cannot be read ({error.strerror})",
            where=error.filename,
            remedy="correct image.ca_bundle",
        ) from None


def _base_arguments(bases: Mapping[str, Base]) -> dict[str, str]:
    return {argument: base.build_argument for argument, base in bases.items()}


def _proxies() -> dict[str, str]:
    names = [spelling for name in _PROXIES for spelling in (name, name.lower())]
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def _follow(events: Iterator[Mapping[str, Any]], order: Build, log: TextIO, report: Report) -> None:
    """Writes the build's log, reports its steps, and raises its failure."""
    account = _Account()
    for event in events:
        if text := event.get("stream"):
            log.write(text)
            for line in text.splitlines():
                account.read(line)
            report(account.step, account.fraction)
        if "error" in event or "errorDetail" in event:
            detail = event.get("errorDetail") or {}
            said = str(detail.get("message") or event.get("error")).strip()
            log.write(f"{said}\n")
            raise ImageError(
                f"the build failed in `{account.step}`: {account.last_words(said)}",
                where=order.log,
                remedy="read the log, correct the cause and run again",
            )


@dataclass(slots=True)
class _Account:
    """A build's current step and last lines."""

    step: str = "building"
    fraction: float | None = None
    _lines: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))

    def read(self, line: str) -> None:
        if found := _STEP.match(line):
            self.step = _shortened(found[3])
            self.fraction = (int(found[1]) - 1) / int(found[2])
            self._lines.clear()
        elif not _OF_THE_ENGINE.match(line) and line.strip():
            self._lines.append(_COLOURS.sub("", line).strip())

    def last_words(self, said: str) -> str:
        """The step's last lines, or the engine's message where it had none."""
        return " / ".join(self._lines) or said


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


def push(
    client: DockerClient,
    reference: str,
    credentials: Callable[[], Credentials | None],
    report: Report,
) -> StoredImage:
    """Pushes an image and compares the digest that the registry then has.

    The engine sends only layers that the registry lacks, so another try resumes where the last
    one failed. Tokens expire, so `credentials` is called for each try.

    Raises:
        ImageError: the registry refuses, cannot be reached, or has another image afterwards.
    """
    for attempt in range(_TRIES - 1):
        try:
            return _push_and_read_back(client, reference, credentials(), report)
        except TransientError as error:
            report(f"pushing failed, trying again ({error.problem})", None)
            time.sleep(_FIRST_PAUSE_S * 2**attempt)
    return _push_and_read_back(client, reference, credentials(), report)


def _push_and_read_back(
    client: DockerClient, reference: str, login: Credentials | None, report: Report
) -> StoredImage:
    return _read_back(reference, _push_once(client, reference, login, report), login)


def _push_once(
    client: DockerClient, reference: str, login: Credentials | None, report: Report
) -> str:
    """One push; gives the digest that the engine says it pushed."""
    from docker.errors import APIError

    image = ImageReference.parse(reference)
    layers = LayerProgress()
    digest = ""
    options: dict[str, Any] = {"auth_config": login.auth_config()} if login else {}
    with translate_docker_errors():
        try:
            events = client.api.push(image.name, tag=image.tag, stream=True, decode=True, **options)
            for event in events:
                _raise_error(reference, event)
                digest = (event.get("aux") or {}).get("Digest", digest)
                report("pushing", layers.fraction_after(event))
        except APIError as error:
            raise explain(reference, str(error.explanation or error)) from None
    if not digest:
        raise ImageError("the push ended without a digest", where=reference, remedy="run again")
    return digest


def _raise_error(reference: str, event: Mapping[str, Any]) -> None:
    """The SDK gives a stream's errors as ordinary events (docker-py 7.2.0)."""
    if "error" in event or "errorDetail" in event:
        detail = event.get("errorDetail") or {}
        raise explain(reference, str(detail.get("message") or event.get("error")))


def _read_back(reference: str, digest: str, login: Credentials | None) -> StoredImage:
    image = ImageReference.parse(reference)
    stored = RegistryClient(image.registry, login).image(image.repository, image.version)
    if stored is None or stored.digest != digest:
        found = stored.digest if stored else "nothing"
        raise ImageError(
            f"the registry has {found} under this tag and not {digest}, which was pushed",
            where=reference,
            remedy="see who else pushes to this tag, and run again",
        )
    return stored
