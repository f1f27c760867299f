"""A reader as the fuzzer sees it: its inputs, and what it may do with them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from falconry.errors import FalconryError, format_error_with_details

ROOT = Path(__file__).parents[2]
TINY_FALCON = ROOT / "checkpoints/tiny-falcon"


@dataclass(frozen=True, slots=True)
class Surface:
    """A reader with its inputs.

    Attributes:
        check: gets a directory, where the files of earlier inputs may be, and an input.
    """

    name: str
    inputs: st.SearchStrategy[Any]
    check: Callable[[Path, Any], None]


def read_or_refuse(read: Callable[[], Any]) -> Any:
    """What a reader returns; None where it refused, which must be one printable sentence."""
    try:
        return read()
    except FalconryError as error:
        for line in format_error_with_details(error).split("\n    "):
            assert line and len(line) < 3_000, f"no sentence: {line[:200]!r}"
            bad = [each for each in line if unicodedata.category(each) in ("Cc", "Cs")]
            assert not bad, f"control characters in the message: {bad}"
        return None


def texts(*patterns: str) -> list[bytes]:
    """The content of the project's files of these names."""
    return [path.read_bytes() for pattern in patterns for path in sorted(ROOT.glob(pattern))]
