"""build/bench: a copy of the project, and the peers' virtual environments."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from falconry.files import remove
from scripts.bench.processes import Command, run

TORCH = "torch==2.13.0"
PACKAGES = (
    "aiperf",
    "torch",
    "transformers",
    "optimum-intel",
    "openvino",
    "openvino-genai",
    "nncf",
)

_LOCKS = Path(__file__).parent
_STAMP = "installed.lock"
_WITH_TORCH = {"optimum", "transformers"}

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

    def peer(self, name: str) -> Path:
        """The virtual environment of `<name>.lock` beside this file, made when needed.

        Where pip finds only the CUDA build of torch, as on PyPI, its libraries come along unused;
        with PyTorch's CPU index in PIP_EXTRA_INDEX_URL they do not.

        Raises:
            BenchError: it cannot be made.
        """
        lock, directory = _LOCKS / f"{name}.lock", self.directory / "peers" / name
        torch = [TORCH] if name in _WITH_TORCH else []
        prepare_environment(directory, lock, ["--require-hashes"], torch)
        return directory

    def versions(self) -> dict[str, dict[str, str]]:
        """The versions of the packages that matter, by environment."""
        peers = sorted((self.directory / "peers").glob("*"))
        return {
            "falconry": _versions(self.root / ".venv"),
            **{directory.name: _versions(directory) for directory in peers},
        }


def prepare_environment(
    directory: Path, requirements: Path, options: Sequence[str] = (), further: Sequence[str] = ()
) -> None:
    """Makes a virtual environment, unless it exists with the same requirements.

    Args:
        directory: where it is.
        requirements: what pip installs in it without following dependencies.
        options: of pip for these requirements.
        further: pip's arguments for packages without hashes, installed after them.

    Raises:
        BenchError: it cannot be made.
    """
    stamp = directory / _STAMP
    if stamp.is_file() and stamp.read_bytes() == requirements.read_bytes():
        return
    print(f"installing {requirements.name} in {directory}: some minutes, once", flush=True)
    here = Path(__file__).parent
    run([sys.executable, "-m", "venv", "--clear", directory], here)
    install: Command = [directory / "bin" / "python", "-m", "pip", "install", "--quiet"]
    run([*install, "--no-deps", *options, "--requirement", requirements], here)
    if further:
        run([*install, *further], here)
    shutil.copyfile(requirements, stamp)


def _versions(environment: Path) -> dict[str, str]:
    site_packages = [str(path) for path in environment.glob("lib/python*/site-packages")]
    found = {each.name: each.version for each in metadata.distributions(path=site_packages)}
    return {name: found[name] for name in PACKAGES if name in found}
