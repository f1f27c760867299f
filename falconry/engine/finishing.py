"""Brings an engine's files to the disk and takes their digests, while the build goes on."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

from falconry.digests import DigestCache
from falconry.engine.manifest import EngineFile, engine_files
from falconry.files import flush_file


class FinishedFiles:
    """The finished files of an engine that is being built.

    Flushing waits for the disk and hashing for a core, neither of them holding Python's
    interpreter, so each goes on in a thread of its own.

    Args:
        directory: the engine's.
        digests: remembers the files' digests.
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
        """Begins to flush and to hash a file that will not change any more."""
        self._flushed.append(self._threads.submit(flush_file, path))
        self._hashed[path] = self._threads.submit(self._digests.file, path)

    def describe(self) -> dict[str, EngineFile]:
        """Size and digest of each of the engine's own files, all of which are finished and flushed.

        Raises:
            OSError: a file cannot be flushed or read.
        """
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
