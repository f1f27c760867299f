"""A stored zip's bytes beside its files.

Written from PKWARE's application note (APPNOTE.TXT 6.3.10). Everything in it follows from the
entries, so the same entries are the same bytes on every machine. Nothing is deflated: weights
hardly shrink, and another zlib gives other bytes. Sizes and CRC are in the local headers, because
Java's ZipInputStream refuses stored entries with a data descriptor ("only DEFLATED entries can have
EXT descriptor").
"""

from __future__ import annotations

import stat
import struct
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

# What a name may have, as UTF-8: its length is a 16 bit field (4.4.10).
MAX_NAME_BYTES = 0xFFFF

# Values that mean "see the Zip64 field" (4.4.1.4).
_IN_ZIP64_16 = 0xFFFF
_IN_ZIP64_32 = 0xFFFFFFFF
# The least values that do not fit into their own fields.
_ZIP64_FROM_COUNT = _IN_ZIP64_16
_ZIP64_FROM_BYTES = _IN_ZIP64_32

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_ZIP64_END = struct.Struct("<4sQ2H2I4Q")
_ZIP64_LOCATOR = struct.Struct("<4sIQI")

_VERSION = 20
_VERSION_ZIP64 = 45
_UNIX = 3  # who made it (4.4.2), so that the mode is read
_MODE = stat.S_IFREG | 0o644
_UTF8 = 0x800  # bit 11 (4.4.4)
_STORED = 0
# 1 January 1980, 0:00, the oldest time of a zip: entries must not differ because files were
# touched.
_TIME, _DATE = 0, 1 << 5 | 1
_ZIP64_FIELD = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the zip."""

    name: str
    size: int
    crc32: int


class Layout:
    """Where everything is in the zip of some entries.

    Attributes:
        starts: the offset of each entry's local header.
        directory_start: that of the central directory, after which nothing else comes.
        directory: the central directory, and the end of the zip.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.starts: list[int] = []
        offset = 0
        for entry in entries:
            self.starts.append(offset)
            offset += len(local_header(entry)) + entry.size
        central = b"".join(map(_central_header, entries, self.starts))
        self.directory_start = offset
        self.directory = central + _end(len(entries), len(central), offset)
        self.size = offset + len(self.directory)

    def index_at(self, offset: int) -> int:
        """The index of the entry at an offset before the central directory."""
        return bisect_right(self.starts, offset) - 1


def local_header(entry: Entry) -> bytes:
    """The header before an entry's bytes."""
    name, flags = _encoded(entry.name)
    large = entry.size >= _ZIP64_FROM_BYTES
    # Both sizes have to be there in a local header (4.5.3).
    extra = _zip64_field([entry.size, entry.size] if large else [])
    size = _IN_ZIP64_32 if large else entry.size
    version = _VERSION_ZIP64 if large else _VERSION
    fixed = _LOCAL.pack(
        *(b"PK\3\4", version, flags, _STORED, _TIME, _DATE),
        *(entry.crc32, size, size, len(name), len(extra)),
    )
    return fixed + name + extra


def _central_header(entry: Entry, offset: int) -> bytes:
    name, flags = _encoded(entry.name)
    large, far = entry.size >= _ZIP64_FROM_BYTES, offset >= _ZIP64_FROM_BYTES
    extra = _zip64_field([*([entry.size, entry.size] if large else []), *([offset] if far else [])])
    size = _IN_ZIP64_32 if large else entry.size
    version = _VERSION_ZIP64 if large or far else _VERSION
    fixed = _CENTRAL.pack(
        *(b"PK\1\2", _UNIX << 8 | version, version, flags, _STORED, _TIME, _DATE),
        *(entry.crc32, size, size, len(name), len(extra), 0, 0, 0),
        *(_MODE << 16, _IN_ZIP64_32 if far else offset),
    )
    return fixed + name + extra


def _end(count: int, size: int, start: int) -> bytes:
    zip64 = b""
    if count >= _ZIP64_FROM_COUNT or max(size, start) >= _ZIP64_FROM_BYTES:
        zip64 = _ZIP64_END.pack(
            *(b"PK\6\6", _ZIP64_END.size - 12, _VERSION_ZIP64, _VERSION_ZIP64, 0, 0),
            *(count, count, size, start),
        )
        zip64 += _ZIP64_LOCATOR.pack(b"PK\6\7", 0, start + size, 1)
    short_count = min(count, _IN_ZIP64_16)
    sizes = (min(size, _IN_ZIP64_32), min(start, _IN_ZIP64_32))
    return zip64 + _END.pack(b"PK\5\6", 0, 0, short_count, short_count, *sizes, 0)


def _zip64_field(values: Sequence[int]) -> bytes:
    """The extra field with values too large for their own (4.5.3)."""
    if not values:
        return b""
    return struct.pack(f"<2H{len(values)}Q", _ZIP64_FIELD, 8 * len(values), *values)


def _encoded(name: str) -> tuple[bytes, int]:
    """A name and the flags for its encoding."""
    if name.isascii():
        return name.encode("ascii"), 0
    return name.encode(), _UTF8
