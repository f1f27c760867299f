"""Arrays whose memory is a file's: the kernel can always take it back."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from falconry.engine.openvino.elements import Array, ElementType

# Where an array may start in a scratch file; any element's alignment divides it.
_ALIGNMENT = 64


class MappedFile:
    """A file as arrays.

    Args:
        file: open for reading; may be closed afterwards.
    """

    def __init__(self, file: BinaryIO) -> None:
        # Copy-on-write, because OpenVINO shares only memory that could be written; nothing does.
        self._mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    @classmethod
    def open(cls, path: Path) -> MappedFile:
        """Maps a file that is not empty."""
        with path.open("rb") as file:
            return cls(file)

    def array(self, offset: int, shape: tuple[int, ...], element: ElementType) -> Array:
        """A row-major array that starts `offset` bytes into the file."""
        count = math.prod(shape)
        return np.frombuffer(self._mapping, element.storage, count, offset).reshape(shape)


class ScratchFile:
    """A file for arrays that are made piece by piece.

    Args:
        file: open for reading and writing; may be closed when it has been mapped.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def append(self, pieces: Iterable[Array]) -> int:
        """Writes an array's pieces one after the other and returns the array's offset.

        Raises:
            OSError: the disk is full.
        """
        offset = self._file.seek(-self._file.tell() % _ALIGNMENT, os.SEEK_CUR)
        for piece in pieces:
            self._file.write(np.ascontiguousarray(piece).data)
        return offset

    def mapped(self) -> MappedFile:
        """What was written so far, which must not be nothing."""
        self._file.flush()
        return MappedFile(self._file)
