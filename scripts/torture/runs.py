"""Runs of make that are disturbed, and the state that they lead to."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.torture.checkout import Clone, Result

LIMIT_S = 180.0
# The next request that needs one starts it again.
_ON_DEMAND = {"chat_process.py"}
_STAGE = re.compile(r"^\S (engine|repository|artifact|image|deployment)\b", re.MULTILINE)


class NotRecoveredError(Exception):
    """A round did not end as an undisturbed one; says how."""


@dataclass
class Run:
    """A make that runs, and what it has printed so far."""

    process: subprocess.Popen[str]
    _printed: bytes = field(default=b"")

    @classmethod
    def start(
        cls, clone: Clone, *words: str, before: Sequence[str] = (), **environment: str
    ) -> Run:
        """Starts make in a checkout; see `Clone.start`."""
        return cls(clone.start(*words, before=before, **environment))

    def stage(self) -> str:
        """The stage that it is in, as far as it has said."""
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        os.set_blocking(descriptor, False)
        with contextlib.suppress(BlockingIOError):
            self._printed += os.read(descriptor, 1 << 20)
        os.set_blocking(descriptor, True)
        stages = _STAGE.findall(self._printed.decode("utf-8", "replace"))
        return str(stages[-1]) if stages else "the start"

    def end(self) -> Result:
        """Waits for it.

        Raises:
            NotRecoveredError: it does not end, or prints a traceback.
        """
        try:
            rest, _ = self.process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            rest, _ = self.process.communicate()
            problem = f"it did not end in {LIMIT_S:.0f} s: {tail(rest)}"
            raise NotRecoveredError(problem) from None
        output = self._printed.decode("utf-8", "replace") + rest
        if "Traceback (most recent call last)" in output:
            raise NotRecoveredError(f"a traceback: {tail(output)}")
        return Result(self.process.returncode, output)


@dataclass(frozen=True)
class State:
    """The end of a run: what was built, and how many processes of each role run."""

    files: Mapping[str, str]
    roles: Mapping[str, int]

    def differences(self, other: State) -> str:
        """In words; empty if there are none."""
        files = sorted(
            name
            for name in {*self.files, *other.files}
            if self.files.get(name) != other.files.get(name)
        )
        counts = (
            (role, self.roles.get(role, 0), other.roles.get(role, 0))
            for role in {*self.roles, *other.roles}
        )
        roles = sorted(
            f"{role}: {mine} → {theirs}"
            for role, mine, theirs in counts
            if theirs > mine or (theirs < mine and role not in _ON_DEMAND)
        )
        return "; ".join([*(f"file {name}" for name in files[:5]), *roles])


def role_of(words: Sequence[str]) -> str:
    """What a process is, by its command line: its program or module, and its model."""
    name = Path(words[0]).name
    if name.startswith("python") and len(words) > 1:
        if "-m" in words[1:3]:
            module = words[words.index("-m") + 1 :][:2]
            return " ".join(word for word in module if not word.startswith(("-", "/")))
        script = next((word for word in words[1:] if not word.startswith("-")), "")
        return Path(script).name if len(script) < 200 and "\n" not in script else "python -c"
    if name == "triton_python_backend_stub" and len(words) > 1:
        return f"stub of {Path(words[1]).parents[1].name}"
    return name


def tail(output: str) -> str:
    """A run's last lines on one line."""
    return " / ".join(line.strip() for line in output.strip().splitlines()[-4:])[-600:]


def remove_tree(path: Path) -> None:
    """Removes a directory that others may still write to, with read-only parts."""

    def writable_and_again(function: Callable[[str], object], name: str, _: object) -> None:
        with contextlib.suppress(OSError):
            Path(name).parent.chmod(0o700)
            Path(name).chmod(0o700)
            function(name)

    for _ in range(20):
        shutil.rmtree(path, onerror=writable_and_again)
        if not path.exists():
            return
        time.sleep(0.05)


@contextlib.contextmanager
def small_disk(path: Path, size_mb: int) -> Iterator[None]:
    """A directory that is a small file system in memory."""
    path.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={size_mb}m", "falconry-torture", str(path))
    try:
        yield
    finally:
        unmount(path)
        with contextlib.suppress(OSError):
            path.rmdir()


def mount(*words: str) -> None:
    """Runs mount."""
    subprocess.run(["mount", *words], check=True)


def unmount(path: Path) -> None:
    """Takes a file system away, also while a process has its files open."""
    if path.is_mount():
        subprocess.run(["umount", "--lazy", path], check=False)


def can_mount() -> bool:
    """Whether this user may mount a file system in memory."""
    return os.geteuid() == 0 and shutil.which("mount") is not None
