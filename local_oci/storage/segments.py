"""A content in one file or in several, one after the other.

What is put together of parts is a directory of links to them, named by their order: however large
it is, nothing is copied.
"""

from __future__ import annotations

import io
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

from typing_extensions import Buffer, override

_READ_BYTES = 1 << 20
_NAME_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Slice:
    """Some bytes of a file."""

    path: Path
    offset: int
    count: int


def segments(content: Path) -> list[Path]:
    """The files of a content, in their order."""
    return sorted(content.iterdir()) if content.is_dir() else [content]


def link(files: Sequence[Path], content: Path) -> None:
    """Make a content of some files that never change.

    Args:
        files: one or more.
        content: where it shall be; must not exist.
    """
    if len(files) == 1:
        content.hardlink_to(files[0])
        return
    content.mkdir()
    for number, file in enumerate(files):
        (content / f"{number:0{_NAME_DIGITS}}").hardlink_to(file)


def size_of(content: Path) -> int:
    """Bytes of the whole."""
    return sum(file.stat().st_size for file in segments(content))


def slices(content: Path, start: int, count: int) -> Iterator[Slice]:
    """Where some bytes of a content are; the files are looked at one after the other."""
    for file in segments(content):
        size = file.stat().st_size
        if start < size and count > 0:
            taken = min(size - start, count)
            yield Slice(file, start, taken)
            start, count = 0, count - taken
        else:
            start -= min(start, size)


def open_content(content: Path) -> BinaryIO:
    """Open a content for reading, as if it were one file."""
    if not content.is_dir():
        return content.open("rb")
    return io.BufferedReader(_Segmented(segments(content)), _READ_BYTES)


class _Segmented(io.RawIOBase):
    """Files as one; of them, one is open at a time."""

    def __init__(self, files: Sequence[Path]) -> None:
        super().__init__()
        self._files = files
        sizes = [file.stat().st_size for file in files]
        self._starts = [0, *accumulate(sizes)]
        self._position = 0
        self._open: tuple[int, BinaryIO] | None = None

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._starts[-1]}
        self._position = base[whence] + offset
        return self._position

    @override
    def tell(self) -> int:
        return self._position

    @override
    def readinto(self, buffer: Buffer, /) -> int:
        if self._position >= self._starts[-1]:
            return 0
        number = bisect_right(self._starts, self._position) - 1
        start, end = self._starts[number : number + 2]
        view = memoryview(buffer).cast("B")[: end - self._position]
        count = os.preadv(self._file(number).fileno(), [view], self._position - start)
        self._position += count
        return count

    @override
    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None
        super().close()

    def _file(self, number: int) -> BinaryIO:
        if self._open is None or self._open[0] != number:
            if self._open is not None:
                self._open[1].close()
            self._open = (number, self._files[number].open("rb", buffering=0))
        return self._open[1]
