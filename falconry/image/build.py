"""Builds an image with the Docker engine, and follows the engine's own account of it."""

from __future__ import annotations

import io
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from falconry.docker_engine.client import engine_errors_told
from falconry.errors import ImageError
from falconry.files import disk_errors_told
from falconry.image.source import ImageSource

if TYPE_CHECKING:
    from docker.client import DockerClient

Report = Callable[[str, float | None], None]

_STEP = re.compile(r"Step (\d+)/(\d+) : (.*)")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# What the engine itself says between a step's own lines.
_OF_THE_ENGINE = re.compile(r" *---> |Removing intermediate container ")
_KEPT_LINES = 3
_SHOWN_CHARACTERS = 60
# Docker's predefined arguments: they reach RUN lines and stand in no image's history
# (docs.docker.com, Dockerfile reference, "Predefined ARGs").
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "FTP_PROXY", "ALL_PROXY")


@dataclass(frozen=True, slots=True)
class Build:
    """One build.

    Attributes:
        source: what is built.
        bases: the base images by argument, as the engine has them, with digests where known.
        labels: what the image says of itself.
        certificates: a bundle for downloads; it is in no layer of the image.
        tag: the image's whole reference.
        log: gets all that the build says.
    """

    source: ImageSource
    bases: Mapping[str, str]
    labels: Mapping[str, str]
    certificates: Path | None
    tag: str
    log: Path


def build(client: DockerClient, order: Build, report: Report) -> None:
    """Builds an image; the engine's cache makes a build that was broken off go on.

    Args:
        client: of the engine; it has the bases already.
        order: what to build.
        report: called with the step and how much is done.

    Raises:
        ImageError: a step failed; the message is its last words.
        MachineError: the engine does not answer, or a file cannot be read or written.
    """
    from docker.errors import APIError

    order.log.parent.mkdir(parents=True, exist_ok=True)
    with disk_errors_told(order.log), order.log.open("w", encoding="utf-8") as log:
        context = _context(order)
        with engine_errors_told():
            try:
                events = client.api.build(
                    fileobj=io.BytesIO(context),
                    custom_context=True,
                    tag=order.tag,
                    buildargs={**order.bases, **_proxies()},
                    labels=dict(order.labels),
                    rm=True,
                    forcerm=True,  # a failed step's container goes as well
                    decode=True,
                )
                _follow(events, order, log, report)
            except APIError as error:
                raise ImageError(
                    f"the Docker engine does not build it ({error.explanation or error})",
                    where=order.tag,
                ) from None


def _context(order: Build) -> bytes:
    try:
        return order.source.context(order.certificates)
    except OSError as error:
        raise ImageError(
            f"cannot be read ({error.strerror})",
            where=error.filename,
            remedy="correct image.ca_bundle",
        ) from None


def _proxies() -> dict[str, str]:
    names = [spelling for name in _PROXIES for spelling in (name, name.lower())]
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def _follow(events: Iterator[Mapping[str, Any]], order: Build, log: TextIO, report: Report) -> None:
    """Keeps the build's account, tells its steps, and raises its failure."""
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
    """Where a build is, and its last lines."""

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
        """The step's last lines, or what the engine says where it had none."""
        return " / ".join(self._lines) or said


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"
