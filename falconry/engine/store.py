"""The content-addressed engine store: `<store>/<key>/`, shared between profiles and runs.

A mirror lets machines share what one of them built. It is optional: when it fails, the failure is
reported and the engine is built or kept anyway.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, Self

from pydantic import ValidationError

from falconry.digests import DigestCache
from falconry.engine.manifest import (
    BUILD_RECORD,
    MANIFEST,
    BuildRecord,
    EngineFile,
    Manifest,
    engine_files,
    read_manifest,
    verify_engine,
    write_manifest,
)
from falconry.errors import EngineError, FalconryError, MachineError
from falconry.files import atomic_write, file_lock, flush_file, remove, remove_stale
from falconry.pipeline import Report
from falconry.progress import human_size

_READ_ONLY = 0o444
_LOCKS = ".locks"


class FileFinalizer:
    """The finished files of an engine that is being built.

    Flushing waits for the disk and hashing for a core, and neither holds the GIL, so each runs in
    a thread of its own.
    """

    def __init__(self, directory: Path, digests: DigestCache) -> None:
        self._directory = directory
        self._digests = digests
        self._threads = ThreadPoolExecutor(max_workers=2)
        self._flushed: list[Future[None]] = []
        self._hashed: dict[Path, Future[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def add(self, path: Path) -> None:
        """Begins to flush and hash a file that will not change again."""
        self._flushed.append(self._threads.submit(flush_file, path))
        self._hashed[path] = self._threads.submit(self._digests.file, path)

    def describe(self) -> dict[str, EngineFile]:
        """Size and digest of each engine file, once all are flushed."""
        paths = {name: self._directory / name for name in engine_files(self._directory)}
        for path in paths.values():
            if path not in self._hashed:
                self.add(path)
        for flushed in self._flushed:
            flushed.result()
        return {
            name: EngineFile(size=path.stat().st_size, sha256=self._hashed[path].result())
            for name, path in paths.items()
        }


class EngineMirror(Protocol):
    """A store of engines that several machines share, such as a bucket."""

    def fetch(self, key: str, directory: Path, report: Report) -> bool:
        """Fills an empty directory with an engine, its manifest and record.

        Every file is compared with the digest in the manifest while or after it arrives, so the
        store need not read it again. False when the mirror lacks the engine; then the directory is
        as it was.
        """
        ...

    def push(self, key: str, directory: Path, report: Report) -> None:
        """Uploads a finished engine, unless a good one already exists."""
        ...


@dataclass(frozen=True, slots=True)
class StoredEngine:
    """An entry of the store.

    Attributes:
        manifest: what the engine is; None when it is damaged.
        built_at: when it was built, here or elsewhere; for an engine without a readable record,
            when it was added.
        problem: why it is never used, in a sentence; None for a good engine.
    """

    key: str
    manifest: Manifest | None
    size: int
    built_at: datetime
    problem: str | None = None

    @property
    def damaged(self) -> bool:
        """Whether the store would build it again."""
        return self.manifest is None

    def facts(self) -> dict[str, str | int | None]:
        """The entry as plain values; `size` in bytes, times in ISO 8601."""
        return {
            "key": self.key,
            "description": self.manifest.description if self.manifest else None,
            "size": self.size,
            "built_at": self.built_at.isoformat(timespec="seconds"),
            "problem": self.problem,
        }

    def __str__(self) -> str:
        what = self.manifest.description if self.manifest else f"damaged: {self.problem}"
        when = self.built_at.isoformat(sep=" ", timespec="minutes").removesuffix("+00:00")
        return f"{self.key[:12]}  {when} UTC  {human_size(self.size):>9}  {what}"


def _silent(step: str, fraction: float | None) -> None:
    pass


class EngineStore:
    """Engines by key; entries appear atomically, and damaged ones are never used.

    Engines are looked for in the mirror before they are built, and pushed to it afterwards.
    """

    def __init__(
        self, directory: Path, digests: DigestCache, mirror: EngineMirror | None = None
    ) -> None:
        self._directory = directory
        self._digests = digests
        self._mirror = mirror

    def entry(self, key: str) -> Path:
        """The directory of the engine with this key, existing or not."""
        return self._directory / key

    def find(self, key: str) -> Manifest | None:
        """The manifest of a verified entry; None if missing or damaged."""
        try:
            return self._verified(key)
        except EngineError:
            return None

    def newest(self) -> Manifest | None:
        """The manifest of the engine that was added last, whatever its key."""
        manifests = sorted(
            self._directory.glob(f"*/{MANIFEST}"), key=lambda path: path.stat().st_mtime_ns
        )
        try:
            return read_manifest(manifests[-1].parent) if manifests else None
        except EngineError:
            return None

    def entries(self) -> list[StoredEngine]:
        """All entries, the newest first, damaged ones too.

        Files whose digest is not remembered are read.
        """
        if not self._directory.is_dir():
            return []
        found = (
            self._describe(entry)
            for entry in self._directory.iterdir()
            if entry.is_dir() and not entry.name.startswith(".")
        )
        return sorted(found, key=lambda engine: engine.built_at, reverse=True)

    def prune(self, keep: int, protect: Collection[str] = ()) -> list[StoredEngine]:
        """Removes damaged entries and all good ones but the newest.

        Args:
            keep: how many good entries stay.
            protect: keys that stay as well, whatever their age.

        Returns:
            What was removed, without entries that another process is building.
        """
        entries = self.entries()
        good = [engine.key for engine in entries if not engine.damaged]
        staying = {*good[: max(keep, 0)], *protect}
        return [
            engine for engine in entries if engine.key not in staying and self._removed(engine.key)
        ]

    def add(
        self,
        key: str,
        build: Callable[[Path], Manifest],
        on_wait: Callable[[str], None],
        report: Report = _silent,
    ) -> Manifest:
        """Takes an entry from the mirror or builds it, holding a lock.

        `build` fills an empty directory and returns the manifest; `on_wait` gets the name of the
        process that is building the same key; `report` what the mirror does and what fails there.
        """
        with file_lock(self._lock(key), on_wait):
            if found := self.find(key):
                return found
            remove(self.entry(key))
            remove_stale(self._directory)
            if fetched := self._fetched(key, report):
                return fetched
            manifest = self._built(key, build)
            self._push(key, report)
            return manifest

    def _verified(self, key: str) -> Manifest:
        manifest = verify_engine(self.entry(key), self._digests)
        if manifest.key != key:
            raise EngineError("has another engine's manifest", where=self.entry(key))
        return manifest

    def _built(self, key: str, build: Callable[[Path], Manifest]) -> Manifest:
        started = time.monotonic()
        with atomic_write(self.entry(key), directory=True) as output:
            manifest = build(output)
            record = BuildRecord(
                built_at=datetime.now(UTC).isoformat(timespec="seconds"),
                seconds=round(time.monotonic() - started, 3),
                host=socket.gethostname(),
            )
            write_manifest(output, manifest, record)
            _make_read_only(output)
        return manifest

    def _fetched(self, key: str, report: Report) -> Manifest | None:
        """The manifest of an entry from the mirror; None without one."""
        if self._mirror is None:
            return None
        try:
            with atomic_write(self.entry(key), directory=True) as output:
                if not self._mirror.fetch(key, output, report):
                    raise _AbsentError
                manifest = _check_arrived(key, output)
                _make_read_only(output)
        except _AbsentError:
            return None
        except MachineError:  # the disk is full or may not be written: a build would fail too
            raise
        except FalconryError as error:
            report(f"the engine mirror gave nothing usable, so it is built here: {error}", None)
            return None
        # Only after the rename: a failed download is removed, and its inode may be used again.
        self._remember(key, manifest)
        return manifest

    def _remember(self, key: str, manifest: Manifest) -> None:
        """Saves the next run from reading files that were just hashed."""
        for name, file in manifest.files.items():
            self._digests.remember(self.entry(key) / name, file.sha256)

    def _push(self, key: str, report: Report) -> None:
        if self._mirror is None:
            return
        try:
            self._mirror.push(key, self.entry(key), report)
        except (FalconryError, OSError) as error:
            report(f"the engine is built, but the mirror did not take it: {error}", None)

    def _describe(self, entry: Path) -> StoredEngine:
        manifest, problem = None, None
        try:
            manifest = self._verified(entry.name)
        except (EngineError, OSError) as error:
            problem = str(error)
        return StoredEngine(
            key=entry.name,
            manifest=manifest,
            size=sum(path.stat().st_size for path in entry.rglob("*") if path.is_file()),
            built_at=_built_at(entry),
            problem=problem,
        )

    def _removed(self, key: str) -> bool:
        """Removes an entry; False when another process holds its lock."""
        with _lock_if_free(self._lock(key)) as held:
            if held:
                try:
                    remove(self.entry(key))
                except OSError as error:
                    raise MachineError(
                        f"cannot be removed ({error.strerror})", where=self.entry(key)
                    ) from error
            return held

    def _lock(self, key: str) -> Path:
        return self._directory / _LOCKS / key


class _AbsentError(Exception):
    """Unwinds the making of an entry that the mirror does not have."""


def _check_arrived(key: str, output: Path) -> Manifest:
    """Checks key, names and sizes; the mirror has checked the digests."""
    manifest = read_manifest(output)
    if manifest.key != key:
        raise EngineError("the mirror gave another engine", where=key)
    sizes = {name: (output / name).stat().st_size for name in engine_files(output)}
    if sizes != {name: file.size for name, file in manifest.files.items()}:
        raise EngineError("the mirror gave other files than the manifest says", where=key)
    return manifest


def _built_at(entry: Path) -> datetime:
    try:
        record = BuildRecord.model_validate_json((entry / BUILD_RECORD).read_bytes())
        return datetime.fromisoformat(record.built_at).astimezone(UTC)
    except (OSError, ValidationError, ValueError):
        return datetime.fromtimestamp(entry.stat().st_mtime, UTC)


def _make_read_only(output: Path) -> None:
    for path in output.rglob("*"):
        if path.is_file():
            path.chmod(_READ_ONLY)


@contextlib.contextmanager
def _lock_if_free(path: Path) -> Iterator[bool]:
    """Takes the lock of `file_lock` without waiting; gives whether it is held."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
