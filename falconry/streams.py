"""The standard streams, and the encodings that a terminal and its locale may have.

Python's UTF-8 mode, which make asks for, reads and writes files and names in UTF-8 in every locale.
What a user types and reads is still in the locale's encoding.
"""

from __future__ import annotations

import codecs
import io
import locale
import os
import sys
from typing import TextIO

# In place of what our texts have beside ASCII, where an encoding lacks it.
_REPLACEMENTS = {
    **dict(zip("✔▸✘", ("ok", "..", "!!"), strict=True)),
    **dict(zip("…→≥≤·×–—", ("...", "->", ">=", "<=", *"-x--"), strict=True)),
}
_REPLACE = "falconry.replace"


def prepare_standard_streams() -> None:
    """Opens closed standard streams, and makes all texts printable in this locale.

    What is printed to a stream that was closed goes nowhere. In Python's UTF-8 mode the streams
    would be in UTF-8 in a locale of another encoding too.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number, which is this one
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    encoding = locale.getencoding() if _has_own_encoding() else None
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=encoding or stream.encoding, errors=_REPLACE)


def _has_own_encoding() -> bool:
    """Whether the locale decides the streams' encoding; not C, where Python prefers UTF-8."""
    named = locale.setlocale(locale.LC_CTYPE)
    return named not in ("C", "POSIX") and "PYTHONIOENCODING" not in os.environ


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replaces what an encoding lacks by signs that look alike, or by escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    plain = (_REPLACEMENTS.get(each) or ascii(each)[1:-1] for each in lacking)
    return "".join(plain), error.end


codecs.register_error(_REPLACE, _replace)


def encodable(text: str, encoding: str | None) -> str:
    """The text with replacements for what the stream's encoding lacks."""
    name = encoding or "utf-8"
    return text if text.isascii() else text.encode(name, _REPLACE).decode(name)


def silence(stream: TextIO) -> None:
    """Discards what is still to be written (Python, signal, "Note on SIGPIPE")."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def typed_text(text: str) -> str:
    """A text of the command line or the environment, as the user typed it.

    In UTF-8 mode Python cannot read what was typed in another encoding.
    """
    if text.isascii() or not _has_own_encoding():
        return text
    return os.fsencode(text).decode(locale.getencoding(), "replace")
