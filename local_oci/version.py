"""Which code a cloud runs, so that newer code does not work with an older server."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

_PACKAGE = Path(__file__).parent
_SUFFIXES = (".py", ".toml")


class RunningCode:
    """This program's files as they were when it started."""

    def __init__(self) -> None:
        self.digest = code_digest()
        self._stamps = _stamps()

    @property
    def is_outdated(self) -> bool:
        """Whether the files have changed since, or are gone."""
        return _stamps() != self._stamps and code_digest() != self.digest


@functools.cache
def running_code() -> RunningCode:
    """The code of this process; the first call is at its start."""
    return RunningCode()


def code_digest() -> str:
    """The SHA-256 of this program's files, as they are now."""
    digest = hashlib.sha256()
    for path in _files():
        try:
            content = path.read_bytes()
        except OSError:  # a checkout is being changed, or removed
            continue
        digest.update(f"{path.relative_to(_PACKAGE)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _files() -> list[Path]:
    return sorted(path for path in _PACKAGE.rglob("*") if path.suffix in _SUFFIXES)


def _stamps() -> list[tuple[str, int, int]]:
    """What tells without reading them that files may have changed."""
    stamps = []
    for path in _files():
        try:
            status = path.stat()
        except OSError:
            continue
        stamps.append((str(path), status.st_mtime_ns, status.st_size))
    return stamps
