"""Digests and checksums of files and trees, remembered for unchanged files.

A remembered digest is used while (device, inode, size, mtime_ns) are the same, so the hard links of
one file are read once. A file whose mtime is as new as its record is not trusted, because it may
have been changed again within the clock's grain (git's "racy" rule, racy-git.txt).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

from zlib_ng.zlib_ng import crc32

from falconry.documents import parse_json, read_document

# The kernel stamps files with the tick, 4 ms at HZ=250; 10 ms covers every common setting.
_CLOCK_GRAIN_NS = 10_000_000
_CHUNK = 256 << 10  # fits into a processor's cache
# Forgetting an old record costs one reading of its file; keeping all of them would grow for ever.
_MOST_RECORDS = 10_000


def bytes_digest(data: bytes) -> str:
    """Returns `sha256:<hex>` of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def canonical_json(value: object) -> bytes:
    """Returns JSON with sorted keys and no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def value_digest(value: object) -> str:
    """Returns `sha256:<hex>` of a JSON value's canonical form."""
    return bytes_digest(canonical_json(value))


@dataclass(frozen=True, slots=True)
class _Known:
    """What was read of a file, with its stat when reading began at `read_ns`.

    The CRC-32 is None where another program hashed the file.
    """

    size: int
    mtime_ns: int
    read_ns: int
    digest: str
    crc32: int | None = None

    def is_valid(self) -> bool:
        numbers = (self.size, self.mtime_ns, self.read_ns, self.crc32 or 0)
        return all(type(each) is int for each in numbers) and isinstance(self.digest, str)

    def holds_for(self, stat: os.stat_result) -> bool:
        same = self.size == stat.st_size and self.mtime_ns == stat.st_mtime_ns
        return same and self.read_ns > self.mtime_ns + _CLOCK_GRAIN_NS


class DigestCache:
    """SHA-256 and CRC-32 of files, remembered in a JSON file; thread-safe but for saving.

    Args:
        record: where they are remembered; created when missing, replaced when damaged.
    """

    def __init__(self, record: Path) -> None:
        self._record = record
        self._known = _load(record)
        self._changed = False

    def file(self, path: Path) -> str:
        """Returns the digest `sha256:<hex>` of a file's content.

        Args:
            path: a regular file.

        Raises:
            OSError: the file cannot be read.
        """
        stat = path.stat()
        known = self._known.get(_identity(stat))
        if known is None or not known.holds_for(stat):
            known = self._read(path, stat, None)
        return known.digest

    def crc32(self, path: Path, report: Callable[[int], None] | None = None) -> int:
        """Returns the CRC-32 of a file's content, as in a zip.

        Args:
            path: a regular file.
            report: called with the number of bytes of each chunk that is read.

        Raises:
            OSError: the file cannot be read.
        """
        stat = path.stat()
        known = self._known.get(_identity(stat))
        if known is None or not known.holds_for(stat) or known.crc32 is None:
            known = self._read(path, stat, report)
        assert known.crc32 is not None
        return known.crc32

    def _read(
        self, path: Path, stat: os.stat_result, report: Callable[[int], None] | None
    ) -> _Known:
        started = time.time_ns()
        known = _Known(stat.st_size, stat.st_mtime_ns, started, *_read_once(path, report))
        self._known[_identity(stat)] = known
        self._changed = True
        return known

    def remember(self, path: Path, digest: str) -> None:
        """Records the digest of a file that was just hashed.

        As for `file`, a file that is still as new as the record is read again the next time.

        Args:
            path: a regular file that is not being written any more.
            digest: `sha256:<hex>` of its content.
        """
        # The clock first: a change after it leaves a time that makes the record useless.
        now = time.time_ns()
        stat = path.stat()
        self._known[_identity(stat)] = _Known(stat.st_size, stat.st_mtime_ns, now, digest)
        self._changed = True

    def files(self, root: Path, names: Iterable[str]) -> dict[str, str]:
        """Returns the digests of files by their names below `root`."""
        return {name: self.file(root / name) for name in names}

    def save(self) -> None:
        """Writes the record; a race with another process loses digests, nothing else."""
        if not self._changed:
            return
        newest = sorted(self._known.items(), key=lambda item: item[1].read_ns)[-_MOST_RECORDS:]
        self._record.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._record.with_name(f".{self._record.name}.{os.getpid()}")
        temporary.write_text(json.dumps({name: astuple(known) for name, known in newest}))
        temporary.replace(self._record)
        self._changed = False


def tree_files(root: Path) -> tuple[str, ...]:
    """Lists regular files but bytecode, as sorted relative POSIX paths."""
    found = (
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
    return tuple(sorted(found))


def _identity(stat: os.stat_result) -> str:
    return f"{stat.st_dev}:{stat.st_ino}"


def _read_once(path: Path, report: Callable[[int], None] | None) -> tuple[str, int]:
    """Reads a file for both its digest and its checksum."""
    digest, crc = hashlib.sha256(), 0
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            digest.update(view[:count])
            crc = crc32(view[:count], crc)
            if report:
                report(count)
    return f"sha256:{digest.hexdigest()}", crc


def _load(record: Path) -> dict[str, _Known]:
    with contextlib.suppress(ValueError, TypeError):
        stored = parse_json(read_document(record))
        known = {name: _Known(*fields) for name, fields in dict(stored).items()}
        return {name: each for name, each in known.items() if each.is_valid()}
    return {}
