"""Tar archives read as streams: headers taken apart, content given in pieces, nothing kept. Pure.

Strict where Python's tarfile is not: what Go's archive/tar, and so Docker, would refuse is an
error here and not the archive's silent end. Nothing is written, so a name may lead anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from falconry.errors import ImageError

PIECE = 1 << 20

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
# Long names and pax headers are read whole, so they have Go's limit (archive/tar, common.go,
# maxSpecialFileSize).
_LARGEST_EXTENSION = 1 << 20


class DamagedError(ImageError):
    """An archive that ends early or holds what no tar archive does."""


class Kind(Enum):
    """What an entry is, as far as it matters here."""

    FILE = "file"
    HARD_LINK = "hard link"
    SYMBOLIC_LINK = "symbolic link"
    OTHER = "directory, device or pipe"


_KINDS = {
    **dict.fromkeys((b"0", b"\0", b"7", b"S"), Kind.FILE),
    b"1": Kind.HARD_LINK,
    b"2": Kind.SYMBOLIC_LINK,
    **dict.fromkeys((b"3", b"4", b"5", b"6"), Kind.OTHER),
}


class ByteSource:
    """Bytes that come in blocks, read by count.

    Args:
        blocks: of any size.
    """

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._block = b""
        self._at = 0

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes.

        Raises:
            DamagedError: there are fewer.
        """
        data = self.peek(count)
        if len(data) < count:
            raise DamagedError("it ends early")
        self._at += count
        return data

    def peek(self, count: int) -> bytes:
        """The next `count` bytes, fewer where there are no more, without taking them."""
        if count > len(self._block) - self._at:
            self._fetch(count)
        return self._block[self._at : self._at + count]

    def _fetch(self, count: int) -> None:
        parts = [self._block[self._at :]]
        missing = count - len(parts[0])
        while missing > 0 and (block := next(self._blocks, None)) is not None:
            parts.append(block)
            missing -= len(block)
        self._block, self._at = b"".join(parts), 0

    def pieces(self, count: int) -> Iterator[bytes]:
        """Exactly `count` bytes in pieces of `PIECE`, the last one smaller.

        Raises:
            DamagedError: there are fewer.
        """
        while count > 0:
            piece = self.read(min(count, PIECE))
            count -= len(piece)
            yield piece

    def skip(self, count: int) -> None:
        """Takes `count` bytes and forgets them.

        Raises:
            DamagedError: there are fewer.
        """
        for _ in self.pieces(count):
            pass

    def drain(self) -> None:
        """Takes what is left."""
        for _ in self._blocks:
            pass


@dataclass(slots=True)
class Entry:
    """An entry of an archive, whose content is read before the next one is asked for.

    Attributes:
        path: without leading `/` and `./`; undecodable bytes as surrogates.
        kind: what it is.
        size: of the content as archived, in bytes; sparse files are smaller here than they say.
        target: where a link leads.
    """

    path: str
    kind: Kind
    size: int
    target: str
    source: ByteSource
    left: int

    def pieces(self) -> Iterator[bytes]:
        """The content that has not been read, in pieces of at most `PIECE` bytes.

        Raises:
            DamagedError: the archive ends in it.
        """
        while self.left:
            count = min(self.left, PIECE)
            self.left -= count
            yield self.source.read(count)

    def peek(self, count: int) -> bytes:
        """The first bytes of the content, `count` or fewer, without taking them."""
        return self.source.peek(min(self.left, count))


def entries(source: ByteSource) -> Iterator[Entry]:
    """The entries of an archive, in its order; ends where the archive does.

    Raises:
        DamagedError: it is no tar archive or ends early.
    """
    extensions = _Extensions()
    while header := _next_header(source):
        size, flag = _number(header[124:136]), header[156:157]
        if flag in b"LKxg":
            extensions.take(flag, _extension(source, size))
            continue
        kind = _KINDS.get(flag, Kind.FILE)
        size = extensions.size(size) if kind is Kind.FILE else 0
        if flag == b"S":
            _skip_sparse_map(source, header)
        path = _path(extensions.path(header))
        entry = Entry(path, kind, size, _path(extensions.target(header)), source, size)
        yield entry
        source.skip(entry.left + -size % _BLOCK)
        extensions = _Extensions(extensions.everywhere)


class _Extensions:
    """What GNU's and pax's extra headers say about the entry after them."""

    def __init__(self, everywhere: dict[bytes, bytes] | None = None) -> None:
        self.everywhere = everywhere or {}
        self._pax: dict[bytes, bytes] = {}
        self._gnu: dict[bytes, bytes] = {}

    def take(self, flag: bytes, data: bytes) -> None:
        if flag == b"x":
            self._pax = _pax_records(data)
        elif flag == b"g":
            self.everywhere = {**self.everywhere, **_pax_records(data)}
        else:
            self._gnu[flag] = data.partition(b"\0")[0]

    def path(self, header: bytes) -> bytes:
        said = self._said(b"GNU.sparse.name") or self._said(b"path") or self._gnu.get(b"L")
        return said or _name(header)

    def target(self, header: bytes) -> bytes:
        said = self._said(b"linkpath") or self._gnu.get(b"K")
        return said or header[157:257].partition(b"\0")[0]

    def size(self, in_header: int) -> int:
        said = self._said(b"size")
        if said is None:
            return in_header
        if not said.isdigit():
            raise DamagedError("a pax header gives a size that is no number")
        return int(said[:20])

    def _said(self, key: bytes) -> bytes | None:
        return self._pax.get(key) or self.everywhere.get(key)


def _next_header(source: ByteSource) -> bytes:
    """The next header; empty at the archive's end, be it two zero blocks or nothing at all."""
    if not source.peek(1):
        return b""
    header = source.read(_BLOCK)
    if header == _ZEROS:
        if source.peek(1) and source.read(_BLOCK) != _ZEROS:
            raise DamagedError("it goes on after its end")
        source.drain()
        return b""
    # The sum counts its own field as spaces; signed sums of historic tars are not read.
    if _number(header[148:156]) != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        raise DamagedError("a header's sum is wrong")
    return header


def _extension(source: ByteSource, size: int) -> bytes:
    if size > _LARGEST_EXTENSION:
        raise DamagedError(f"a header's extension has {size} bytes")
    data = source.read(size)
    source.skip(-size % _BLOCK)
    return data


def _skip_sparse_map(source: ByteSource, header: bytes) -> None:
    """Skips the blocks in which GNU's format continues the list of a sparse file's holes."""
    goes_on = header[482]
    while goes_on:
        goes_on = source.read(_BLOCK)[504]


def _number(field: bytes) -> int:
    """A number of a header: octal digits, or binary when the first bit is set (GNU)."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        if value >> 63:
            raise DamagedError("a header has a number that is too large")
        return value
    digits = field.strip(b" \0")
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        raise DamagedError("a header has a number that is none") from None


def _name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0]
    # GNU's own format keeps times where POSIX has the prefix.
    is_posix = header[257:263] == b"ustar\0"
    return prefix + b"/" + name if is_posix and prefix else name


def _pax_records(data: bytes) -> dict[bytes, bytes]:
    """The records of a pax header, each `<its length> <key>=<value>` and a line's end."""
    records = {}
    while data:
        length = data.partition(b" ")[0]
        end = int(length) if length.isdigit() and len(length) < 8 else 0
        key, equals, value = data[len(length) + 1 : end - 1].partition(b"=")
        if not equals or data[end - 1 : end] != b"\n":
            raise DamagedError("a pax header is none")
        records[key] = value
        data = data[end:]
    return records


def _path(raw: bytes) -> str:
    path = raw.decode("utf-8", "surrogateescape")
    while path.startswith(("/", "./")):
        path = path.removeprefix("./").removeprefix("/")
    return path
