"""Where a benchmark works: below build/bench, with a copy of the project to build engines in."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from falconry.files import remove

# What the make targets do without, besides hidden files; checkpoints may be large.
_LEFT_OUT = {"build", "checkpoints", "tests"}


@dataclass(frozen=True, slots=True)
class Workplace:
    """The directories of a benchmark.

    Attributes:
        root: the project.
    """

    root: Path

    @property
    def directory(self) -> Path:
        """Everything that benchmarks make."""
        return self.root / "build" / "bench"

    @property
    def python(self) -> Path:
        """The project's Python, with everything in requirements.lock."""
        return self.root / ".venv" / "bin" / "python"

    @property
    def copy(self) -> Path:
        """The copy of the project."""
        return self.directory / "project"

    def copy_project(self) -> None:
        """Makes the copy anew, with nothing built in it.

        Bytecode goes along and times are kept, so it runs as a project that has been used.
        """
        remove(self.copy)
        self.copy.mkdir(parents=True)
        for entry in self.root.iterdir():
            if entry.name in _LEFT_OUT or entry.name.startswith("."):
                continue
            if entry.is_dir():
                shutil.copytree(entry, self.copy / entry.name)
            else:
                shutil.copy2(entry, self.copy)
        (self.copy / ".venv").symlink_to(self.root / ".venv")

    def forget_builds(self) -> None:
        """Removes the copy's engines, outputs, receipts and digests."""
        remove(self.copy / "build")
