"""The directory that a check unpacks into, which the next one removes if the check was killed."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from local_oci.home import Lock, is_locked
from local_oci.runtime.artifact import remove_tree

_PREFIX = "local_oci-check-"
# Held as long as the check runs; the kernel lets go of it whatever ends the process.
_LOCK = "lock"


@contextlib.contextmanager
def check_directory() -> Iterator[Path]:
    """A new directory for temporary files, which is removed afterwards. Blocks.

    Those of checks that have ended without removing theirs are removed first.
    """
    _remove_left()
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
    lock = Lock(directory / _LOCK)
    lock.acquire()
    try:
        yield directory
    finally:
        remove_tree(directory)
        lock.release()


def _remove_left() -> None:
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another check removes it as well
            if _is_left(directory):
                remove_tree(directory)


def _is_left(directory: Path) -> bool:
    """Whether it is a directory of this user's whose check has ended."""
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        return False
    lock = directory / _LOCK
    return lock.exists() and not is_locked(lock)  # one without a lock is being made
