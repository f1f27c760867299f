"""Atomic writes, and the lock that keeps two runs apart.

An output is written to a temporary sibling on the same file system, flushed, and renamed; a killed
run leaves a sibling, which a later run removes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import resource
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from falconry.documents import DocumentError, parse_json, read_document
from falconry.errors import MachineError, SettingsError

_TEMPORARY = ".making-"
# A run has some dozens of files open, and what it starts, such as a server, some more.
_LEAST_OPEN_FILES = 256
_STOPPED = "Tt"  # proc(5): by a signal, such as that of Ctrl-Z, or by a debugger


@contextlib.contextmanager
def atomic_write(path: Path, *, directory: bool = False) -> Iterator[Path]:
    """Gives a temporary path; renames it to `path` on success.

    Args:
        path: of the output. A file there is replaced; a directory must not exist.
        directory: whether the output is a directory (made here, empty) or a file.

    Raises:
        MachineError: the disk is full or may not be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    holder, claim = _claimed_directory(path.parent)
    output = holder / path.name
    try:
        if directory:
            output.mkdir()
        with translate_disk_errors(path):
            yield output
            _flush(output)
            output.rename(path)
            _flush_directory(path.parent)
    finally:
        remove(holder)
        os.close(claim)


def user_path(text: str) -> Path:
    """The path that a user wrote, with `~` and `~name` as a shell reads them.

    Raises:
        SettingsError: no path can be so, or there is no such user.
    """
    try:
        path = Path(text).expanduser()
        os.fsencode(path)
    except (RuntimeError, ValueError) as error:
        raise SettingsError(f"is not a path ({error})", where=text) from None
    if "\0" in text:
        raise SettingsError("is not a path (it holds a NUL)", where=text)
    return path


def path_exists(path: Path) -> bool:
    """Whether something has this path; False for a path that nothing can have."""
    try:
        return path.exists()
    except OSError:  # a name that is too long
        return False


def flush_file(path: Path) -> None:
    """Waits until a file's content is on the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def remove_stale(directory: Path) -> None:
    """Removes the temporary outputs of killed runs in `directory`."""
    for holder in directory.glob(f"{_TEMPORARY}*"):
        with contextlib.suppress(OSError):
            claim = os.open(holder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(holder)
            finally:
                os.close(claim)


def _claimed_directory(parent: Path) -> tuple[Path, int]:
    """Makes a temporary directory, and a descriptor locked while this process lives."""
    while True:
        holder = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=parent))
        with contextlib.suppress(FileNotFoundError):  # removed before it was locked
            claim = os.open(holder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(claim, fcntl.LOCK_EX)
            if holder.is_dir():
                return holder, claim
            os.close(claim)


def remove(path: Path) -> None:
    """Removes a file or a tree, also read-only, if it exists."""
    if path.is_dir() and not path.is_symlink():
        for parent, _, _ in os.walk(path):
            Path(parent).chmod(stat.S_IRWXU)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def atomic_write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    with atomic_write(path) as output:
        output.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def translate_disk_errors(path: Path) -> Iterator[None]:
    """Translates errors of a full, read-only or forbidden disk into a `MachineError`."""
    remedies = {
        errno.ENOSPC: "free some disk space and run again",
        errno.EDQUOT: "free some of your disk quota and run again",
        errno.EROFS: "choose a path that can be written",
        errno.EACCES: "give yourself the right to write there",
        errno.EPERM: "give yourself the right to write there",
        errno.EFBIG: "allow larger files (ulimit -f) and run again",
    }
    try:
        yield
    except OSError as error:
        if error.errno not in remedies:
            raise
        reason = os.strerror(error.errno).lower()
        raise MachineError(
            f"could not be written ({reason}); nothing was changed",
            where=path,
            remedy=remedies[error.errno],
        ) from error


def require_open_files() -> None:
    """Lets this process open as many files as a run needs.

    Raises:
        MachineError: it may not.
    """
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < _LEAST_OPEN_FILES:
        raise MachineError(
            f"a process may open {most} files here, and a run needs {_LEAST_OPEN_FILES}",
            where="ulimit -n",
            remedy=f"allow more, for instance: ulimit -n {4 * _LEAST_OPEN_FILES}",
        )
    if allowed != resource.RLIM_INFINITY and allowed < _LEAST_OPEN_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_LEAST_OPEN_FILES, most))


@contextlib.contextmanager
def file_lock(path: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Holds an exclusive `flock`, which ends with the process.

    Args:
        path: the lock file; it names its holder and is never removed.
        on_wait: called once with the holder's name if another process holds the lock.

    Raises:
        MachineError: the holder is stopped, so that waiting for it might never end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait(_running_holder(path))
            fcntl.flock(stream, fcntl.LOCK_EX)
        stream.truncate(0)
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
        started = time.strftime("%H:%M:%S")
        stream.write(json.dumps({"pid": os.getpid(), "command": command, "since": started}))
        stream.flush()
        yield


def _running_holder(path: Path) -> str:
    """Names the process that holds a lock."""
    try:
        holder = parse_json(read_document(path))
        name = f"process {holder['pid']} (`{holder['command']}`, since {holder['since']})"
        stopped = is_stopped(holder["pid"])
    except (DocumentError, KeyError, TypeError):
        return "another process"
    if stopped:
        raise MachineError(
            f"{name} is stopped and holds the lock",
            where=path,
            remedy="continue it or end it, for instance with fg and Ctrl-C",
        )
    return name


def is_stopped(process: int) -> bool:
    """Whether a process is stopped, so that waiting for it would not end."""
    return _state(process) in _STOPPED


def _state(process: int) -> str:
    """The letter for a process's state; "X" where there is no such process."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "X"
    return stat.rpartition(")")[2].split()[0]


def _flush(output: Path) -> None:
    paths = [output, *output.rglob("*")] if output.is_dir() else [output]
    for path in paths:
        if path.is_dir():
            _flush_directory(path)
        else:
            flush_file(path)


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
