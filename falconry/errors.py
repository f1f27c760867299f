"""Errors that a user can act on, and their text.

Every stage raises a subclass of `FalconryError` with the facts of the failure; only `format_error`
turns them into text, and only `tasks.py` prints it. Any other exception is a bug.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_LONGEST_LINE = 2_000


def _escapes(*ranges: range) -> dict[int, str]:
    return {code: f"\\u{code:04x}" for each in ranges for code in each}


# C0 but tab and line feed, DEL and C1, directions (Unicode 16, UAX 9), surrogates.
_ESCAPES = _escapes(
    range(0x09),
    range(0x0B, 0x20),
    range(0x7F, 0xA0),
    range(0x202A, 0x202F),
    range(0x2066, 0x206A),
    range(0xD800, 0xE000),
)
_LINE_ESCAPES = {**_ESCAPES, 0x09: "    ", 0x0A: "\\n", 0x2028: "\\u2028", 0x2029: "\\u2029"}


class FalconryError(Exception):
    """A failure with its location and its remedy.

    Args:
        problem: what is wrong, as a clause without a full stop.
        where: the file, tensor, key or resource that is wrong.
        remedy: what to do about it, as an imperative clause.
        details: further lines, such as the end of a log, printed below the message.
    """

    def __init__(
        self,
        problem: str,
        *,
        where: str | Path | None = None,
        remedy: str | None = None,
        details: Sequence[str] = (),
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.where = str(where) if where is not None else None
        self.remedy = remedy
        self.details = tuple(details)

    def __str__(self) -> str:
        return format_error(self)


class SettingsError(FalconryError):
    """A profile, recipe or override that cannot be used."""


class CheckpointError(FalconryError):
    """A checkpoint that is missing, damaged or of no model that is built."""


class EngineError(FalconryError):
    """An engine that cannot be built, or contradicts its manifest."""


class ImageError(FalconryError):
    """An image that cannot be built, pushed or run under the contract."""


class RepositoryError(FalconryError):
    """A model repository that Triton would not serve."""


class ServerError(FalconryError):
    """The machine lacks something that the local Triton server needs."""


class CloudError(FalconryError):
    """The cloud, real or emulated, refused or failed an operation."""


class PreflightError(FalconryError):
    """A deployment that the cloud would refuse, or that could not serve."""


class EndpointError(FalconryError):
    """A request to a deployed endpoint that got no usable answer."""


class MachineError(FalconryError):
    """The machine stopped the work: disk full, no permission, port taken."""


class DetachedOperation(KeyboardInterrupt):
    """The user interrupted a wait; the text says how to follow it.

    It is no `FalconryError`: nothing failed, and no handler of failures may catch it.
    """


class OutputClosedError(Exception):
    """The reader of the output, such as `head`, closed it.

    It is no `FalconryError`: there is no reader for a message.
    """


def format_error(error: FalconryError) -> str:
    """Formats an error in one line: location, problem and remedy."""
    where = f"{error.where}: " if error.where else ""
    remedy = f"; {error.remedy}" if error.remedy else ""
    return _message_line(f"{where}{error.problem}{remedy}")


def format_error_with_details(error: FalconryError) -> str:
    """Formats an error in one line, with its details below."""
    return "\n    ".join([format_error(error), *map(_message_line, error.details)])


def printable(text: str) -> str:
    """Escapes what a terminal would obey, or a stream could not encode, in a text of others.

    These are control characters but the line feed and the tab, the marks that turn the direction
    of writing, and halves of surrogate pairs. The escapes are those of JSON, so that JSON stays
    what it is.
    """
    return text.replace("\r\n", "\n").translate(_ESCAPES)


def printable_line(text: str) -> str:
    """Escapes as `printable` does, and also what would end the line."""
    return text.translate(_LINE_ESCAPES)


def _message_line(text: str) -> str:
    """A line without its middle if it is very long: it may quote a file of others."""
    if len(text) > _LONGEST_LINE:
        text = f"{text[: _LONGEST_LINE // 2]} … {text[-_LONGEST_LINE // 2 :]}"
    return printable_line(text)
