"""NVIDIA's sources: a checkout or a git directory, perhaps at a revision."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from scripts.check_nvidia.environment import CheckError

CHECKPOINTS = Path(__file__).resolve().parents[2] / "tests" / "data" / "checkpoints"
# What is read of a source: the Python package, the examples, and the models for Triton.
_PARTS = ("tensorrt_llm", "examples", "all_models", "triton_backend")
_MODELS = ("all_models", "triton_backend/all_models")
_VERSION = re.compile(r'^__version__ = "([^"]+)"', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Source:
    """A copy of the parts of a source that are run.

    Attributes:
        root: where they are.
        release: the version that its files name, or else the requested revision.
        commit: of a git directory, shortened; empty for files without git.
    """

    root: Path
    release: str
    commit: str

    @property
    def name(self) -> str:
        """Release and commit."""
        return f"{self.release} ({self.commit})" if self.commit else self.release

    @property
    def package(self) -> bool:
        """Whether it holds the tensorrt_llm package."""
        return (self.root / "tensorrt_llm" / "version.py").is_file()

    @property
    def models(self) -> Path | None:
        """The models for Triton, in whichever repository they were at the time."""
        found = (self.root / name / "inflight_batcher_llm" for name in _MODELS)
        return next((path for path in found if path.is_dir()), None)

    def script(self, candidates: tuple[str, ...]) -> Path | None:
        """The first of some paths in the image that the source has, without its /app."""
        paths = (self.root / candidate.removeprefix("/app/") for candidate in candidates)
        return next((path for path in paths if path.is_file()), None)


def take(text: str, target: Path) -> Source:
    """Copies what is needed of `PATH` or `PATH@REVISION` to a directory.

    Raises:
        CheckError: there is nothing of NVIDIA's, or no such revision.
    """
    path, _, revision = text.partition("@")
    directory = Path(path).expanduser()
    if not directory.is_dir():
        raise CheckError(f"{path} is not a directory")
    commit = _git(directory, "rev-parse", "--short=9", f"{revision or 'HEAD'}^{{commit}}")
    if revision and not commit:
        raise CheckError(f"{path} has no revision {revision}")
    if revision or (commit and not _has_files(directory)):
        _extract(directory, commit, target)
    else:
        for part in _PARTS:
            if (directory / part).is_dir():
                shutil.copytree(directory / part, target / part)
    if not _has_files(target):
        raise CheckError(f"{text} has neither tensorrt_llm nor models for Triton")
    return Source(target, _version(target) or revision or path, commit)


def _has_files(directory: Path) -> bool:
    return any((directory / part).is_dir() for part in ("tensorrt_llm", *_MODELS))


def _version(root: Path) -> str:
    path = root / "tensorrt_llm" / "version.py"
    found = _VERSION.search(path.read_text()) if path.is_file() else None
    return found[1] if found else ""


def _extract(directory: Path, commit: str, target: Path) -> None:
    there = _git(directory, "ls-tree", "--name-only", commit).splitlines()
    parts = [part for part in _PARTS if part in there]
    if not parts:
        return
    archive = target / "source.tar"
    target.mkdir(parents=True, exist_ok=True)
    _git(directory, "archive", f"--output={archive}", commit, *parts)
    with tarfile.open(archive) as tar:
        tar.extractall(target, filter="data")
    archive.unlink()


def _git(directory: Path, *arguments: str) -> str:
    """The output of git; empty if it fails."""
    command = ["git", "-C", str(directory), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.stdout.strip() if ended.returncode == 0 else ""
