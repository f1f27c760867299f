"""Where a checkpoint comes from: a directory, or the Hugging Face hub at a pinned commit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from falconry.checkpoint.files import checkpoint_files
from falconry.checkpoint.hub import HubCheckpoint, fetch, fetched, parse_hub
from falconry.digests import DigestCache, value_digest


@dataclass(frozen=True, slots=True)
class CheckpointSource:
    """A checkpoint that is at hand or can be fetched.

    Attributes:
        hub: its name and commit there; None for a directory.
        path: the directory; None for one of the hub's.
    """

    hub: HubCheckpoint | None
    path: Path | None

    @classmethod
    def parse(cls, text: str) -> CheckpointSource:
        """Reads `hub:<repository>@<commit>` or a directory's path.

        Raises:
            CheckpointError: it names the hub without a commit.
        """
        hub = parse_hub(text)
        return cls(hub, None if hub else Path(text).expanduser())

    @property
    def name(self) -> str:
        """A short name for people."""
        return self.hub.repository if self.hub else str(self.path and self.path.name)

    def digest(self, digests: DigestCache) -> str:
        """What identifies the content; a commit of the hub's does without its being here.

        Raises:
            CheckpointError: the directory is no checkpoint.
        """
        if self.hub:
            return self.hub.digest
        files = checkpoint_files(self._directory())
        return value_digest({path.name: digests.file(path) for path in files})

    def at_hand(self) -> Path | None:
        """The directory, if nothing has to be fetched for it."""
        return fetched(self.hub) if self.hub else self.path

    def fetch(self, report: Callable[[str, float | None], None]) -> Path:
        """The directory, fetched when it is not here yet.

        Raises:
            CheckpointError: the hub does not have it or does not give it.
            MachineError: no network, or no space on the disk.
        """
        return fetch(self.hub, report) if self.hub else self._directory()

    def _directory(self) -> Path:
        if self.path is None:
            raise ValueError("a checkpoint is either the hub's or a directory")
        return self.path
