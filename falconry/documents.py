"""Reads documents that others wrote, with bounds, and refuses wrong ones in one clause.

A checkpoint, an engine or a receipt may be damaged or hostile. So its size is compared with a limit
before it is read, and what Python reads but other readers refuse is refused here too: duplicate
keys, NaN, numbers beyond a double and halves of surrogate pairs in JSON.
"""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

# Of a document's text; the longest that is common is a tokenizer's configuration, below 1 MB.
MOST_BYTES = 16 * 1024 * 1024
# A tokenizer.json, the longest of the checkpoint's files that are no tensors: Gemma's has 33 MB.
MOST_TOKENIZER_BYTES = 256 * 1024 * 1024
_INT64 = 1 << 63


class DocumentError(ValueError):
    """Why a document cannot be used, as a clause."""


def read_document(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Reads a regular file that is no longer than a limit.

    Raises:
        DocumentError: it is missing, unreadable, too long or no regular file.
    """
    try:
        # Opening a FIFO would wait for its writer.
        with open(path, "rb", opener=_without_waiting) as stream:
            found = os.fstat(stream.fileno())
            is_regular = stat.S_ISREG(found.st_mode)
            content = stream.read(most_bytes + 1) if is_regular else b""
    except OSError as error:
        raise DocumentError(f"cannot be read ({error.strerror})") from None
    except ValueError as error:  # a path with a NUL
        raise DocumentError(f"cannot be read ({error})") from None
    if not is_regular:
        raise DocumentError("is not a regular file")
    if len(content) > most_bytes:
        size = max(found.st_size, len(content))
        raise DocumentError(f"has {size:,} bytes; at most {most_bytes:,} are read of such a file")
    return content


def read_document_text(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """Reads a text in UTF-8, as `read_document` does.

    Raises:
        DocumentError: it cannot be read, or is not UTF-8.
    """
    return _decoded(read_document(path, most_bytes))


def parse_json(content: bytes | str) -> Any:
    """Parses JSON as RFC 8259 has it, in values that can be written and compared.

    Raises:
        DocumentError: it is not JSON, ambiguous, or nested too deeply.
    """
    text = _decoded(content) if isinstance(content, bytes) else content
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unambiguous,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
        if "\\ud" in text.lower():
            _require_complete_characters(value)
    except DocumentError:
        raise
    except ValueError as error:  # also an integer with more digits than Python converts
        raise DocumentError(f"is not JSON ({error})") from None
    except RecursionError:
        raise DocumentError("is nested too deeply to be read") from None
    return value


def is_integer(value: object) -> bool:
    """Whether a value is an integer of 64 bits and no truth value."""
    return type(value) is int and -_INT64 <= value < _INT64


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError(f"is not UTF-8 (byte {error.start:,})") from None


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise DocumentError(f"names the key {twice[:100]!r} twice")
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise DocumentError(f"holds {name}, which is not valid JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise DocumentError(f"holds the number {digits[:40]}, which is too large")
    return value


def _require_complete_characters(value: Any) -> None:
    """Refuses halves of surrogate pairs: no other program, and no terminal, takes them."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise DocumentError("holds half a character (a lone surrogate)") from None
