"""Byte streams as text, and text as Server-Sent Events. Pure.

The format: WHATWG HTML, "Server-sent events", 9.2.6. Blank lines separate events.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

EVENT_STREAM = "text/event-stream"
_BOM = "\ufeff"
# Of one event; no model's answer is as long, and a server may never end a line.
_MOST_CHARACTERS = 10 << 20


class BadStreamError(Exception):
    """Bytes that are no text, or a line that does not end."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `name` is "message" unless the server says otherwise."""

    data: str
    name: str = "message"


def text_of(chunks: Iterable[bytes], charset: str = "utf-8") -> Iterator[str]:
    """Text as it arrives; characters spread over chunks come with the last.

    Raises:
        BadStreamError: the bytes are not in this charset.
    """
    decoder = codecs.getincrementaldecoder(charset)()
    try:
        for chunk in chunks:
            if text := decoder.decode(chunk):
                yield text
        if text := decoder.decode(b"", final=True):
            yield text
    except UnicodeDecodeError as error:
        raise BadStreamError(
            f"the bytes {error.object[error.start : error.end]!r} are not {charset}"
        ) from None
    except UnicodeError:  # as some charsets have it
        raise BadStreamError(f"the bytes are not {charset}") from None


def events_of(chunks: Iterable[bytes]) -> Iterator[Event]:
    """The events of a stream, without an incomplete last one.

    Raises:
        BadStreamError: the bytes are not UTF-8, or a line does not end.
    """
    data: list[str] = []
    name, size = "", 0
    for line in _lines(text_of(chunks)):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        size += len(line)
        if size > _MOST_CHARACTERS:
            raise BadStreamError(f"an event is longer than {_MOST_CHARACTERS} characters")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
        elif not line:
            if data:
                yield Event("\n".join(data), name or "message")
            data, name, size = [], "", 0


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """Lines without their CR or LF; an unfinished last one is dropped."""
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    pending: list[str] = []
    size, first = 0, True
    for text in texts:
        translated = newlines.decode(text.removeprefix(_BOM) if first else text)
        first = False
        *lines, rest = translated.split("\n")
        for line in lines:
            yield "".join([*pending, line])
            pending, size = [], 0
        if rest:
            pending.append(rest)
            size += len(rest)
        if size > _MOST_CHARACTERS:
            raise BadStreamError(f"a line is longer than {_MOST_CHARACTERS} characters")
