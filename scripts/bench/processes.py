"""Runs programs and measures their time and memory."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

SAMPLING_INTERVAL_S = 0.002

# What `make bench` exports would otherwise reach the makes that are measured.
_INHERITED = ("FALCONRY_", "MAKE", "MFLAGS")

Value = TypeVar("Value")
Command = Sequence[str | Path]


class BenchError(Exception):
    """A measured program failed; one sentence."""


def cpu_name() -> str:
    """The processor's name, or else the machine's architecture."""
    described = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"^model name\s*: (.*)$", described, re.MULTILINE)
    return model[1] if model else platform.machine()


def run(command: Command, directory: Path, variables: Mapping[str, str] | None = None) -> str:
    """Runs a program and returns its standard output.

    Args:
        command: the program and its arguments.
        directory: where it runs.
        variables: set in its environment.

    Raises:
        BenchError: it fails; with the last line of its output.
    """
    environment = {**_environment(), **(variables or {})}
    result = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    _require_success(command, result.returncode, result.stdout + result.stderr)
    return result.stdout


def seconds(command: Command, directory: Path) -> float:
    """Wall time of a program from start to end.

    Raises:
        BenchError: it fails.
    """
    # Else a program would pay for writing out what the one before it left behind.
    os.sync()
    started = time.perf_counter()
    run(command, directory)
    return time.perf_counter() - started


def peak_anonymous_mib(command: Command, directory: Path) -> float:
    """The most anonymous memory a program holds, children included.

    The kernel cannot reclaim it without swap; mapped files do not count. The value is sampled, so a
    peak of less than the interval may be missed.

    Raises:
        BenchError: it fails.
    """
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, cwd=directory, env=_environment(), stdout=output, stderr=subprocess.STDOUT
        )
        peak = 0
        while process.poll() is None:
            held = sum(status_number(pid, "RssAnon") for pid in with_descendants(process.pid))
            peak = max(peak, held)
            time.sleep(SAMPLING_INTERVAL_S)
        output.seek(0)
        _require_success(command, process.returncode, output.read())
    return peak / 1024


def alternate(
    title: str, rounds: int, contestants: Mapping[str, Callable[[], Value]]
) -> dict[str, list[Value]]:
    """Collects each contestant's values; they take turns, so noise affects all alike."""
    values: dict[str, list[Value]] = {name: [] for name in contestants}
    for number in range(1, rounds + 1):
        print(f"{title}: round {number} of {rounds}", flush=True)
        for name, contestant in contestants.items():
            values[name].append(contestant())
    return values


def with_descendants(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    with contextlib.suppress(OSError):  # a process or thread that has just ended
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in children.read_text().split():
                yield from with_descendants(int(child))


def status_number(pid: int | str, field: str) -> int:
    """A number of proc_pid_status(5); 0 for a process that has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_bytes()
    except OSError:
        return 0
    _, found, rest = status.partition(f"\n{field}:".encode())
    return int(rest.split(maxsplit=1)[0]) if found else 0


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_INHERITED)}
    return {**kept, "HF_HUB_OFFLINE": "1"}


def _require_success(command: Command, status: int, output: str) -> None:
    if status != 0:
        words = " ".join(str(word) for word in command)
        # Under make the reason is above make's own last line.
        lines = [line for line in output.strip().splitlines() if not line.startswith("make")]
        raise BenchError(f"`{words}` failed with {status}: {lines[-1] if lines else 'no output'}")
