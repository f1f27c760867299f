"""The content-addressed engine store: `<store>/<key>/`, shared between profiles and runs."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from falconry.digests import DigestCache
from falconry.engine.manifest import (
    MANIFEST,
    BuildRecord,
    Manifest,
    read_manifest,
    verify_engine,
    write_manifest,
)
from falconry.errors import EngineError
from falconry.files import locked, made_whole, remove, sweep

_READ_ONLY = 0o444


class EngineStore:
    """Engines by key; an entry appears whole, and a damaged one is never handed out.

    Args:
        directory: the store's directory, made when the first engine comes in.
        digests: remembers the digests of the entries' files.
    """

    def __init__(self, directory: Path, digests: DigestCache) -> None:
        self._directory = directory
        self._digests = digests

    def entry(self, key: str) -> Path:
        """Where the engine with this key stands, if it does."""
        return self._directory / key

    def find(self, key: str) -> Manifest | None:
        """The manifest of a verified entry; None when there is none or it is damaged."""
        try:
            manifest = verify_engine(self.entry(key), self._digests)
        except EngineError:
            return None
        return manifest if manifest.key == key else None

    def newest(self) -> Manifest | None:
        """The manifest of the engine that came in last, whatever its key."""
        manifests = sorted(
            self._directory.glob(f"*/{MANIFEST}"), key=lambda path: path.stat().st_mtime_ns
        )
        try:
            return read_manifest(manifests[-1].parent) if manifests else None
        except EngineError:
            return None

    def add(
        self,
        key: str,
        build: Callable[[Path], Manifest],
        on_wait: Callable[[str], None],
    ) -> Manifest:
        """Builds an entry, unless another process is just building the same one.

        Args:
            key: the engine's key.
            build: fills an empty directory and says what the engine is.
            on_wait: called with the name of the process that is building the same key.

        Raises:
            FalconryError: the build failed; the store is as it was.
        """
        with locked(self._directory / ".locks" / key, on_wait):
            if found := self.find(key):
                return found
            remove(self.entry(key))
            sweep(self._directory)
            started = time.monotonic()
            with made_whole(self.entry(key), directory=True) as output:
                manifest = build(output)
                record = BuildRecord(
                    built_at=datetime.now(UTC).isoformat(timespec="seconds"),
                    seconds=round(time.monotonic() - started, 3),
                    host=socket.gethostname(),
                )
                write_manifest(output, manifest, record)
                for path in output.rglob("*"):
                    if path.is_file():
                        path.chmod(_READ_ONLY)
            return manifest
