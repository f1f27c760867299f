"""A soak from start to end: warm-up, the load, what the server has kept afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scripts.soak.holdings import Holdings, holdings
from scripts.soak.load import Tally
from scripts.soak.rest import come_to_rest, free_slots
from scripts.soak.server import Server, serving

CONCURRENCY = 200
# What may come besides a leak: the allocators' slack, a thread or a socket of gRPC's pools. A leak
# of the least thing a request could leave, a descriptor or a thread, is hundreds of them.
MORE_MEMORY = 0.10
MORE_THREADS = 8
MORE_FILES = 8

# Its caches and pools have grown to what the load needs by then.
_WARM_UP_SHARE = 0.5
_LEAST_WARM_UP_S = 8.0
_ROOT = Path(__file__).parents[2]

Report = Callable[[str, float, str], None]


class SoakError(Exception):
    """The load could not be put on the server; one sentence."""


@dataclass(frozen=True, slots=True)
class Soaked:
    """What a soak has shown.

    Attributes:
        tally: what has come of the requests.
        before: what the server held after the warm-up.
        after: what it held after the load.
        busy: what was still under way when nothing should have been.
        slots: how many requests the engine was built to answer at a time.
        free_slots: how many it answered at a time afterwards; None where nothing streams.
    """

    tally: Tally
    before: Holdings
    after: Holdings
    busy: list[str]
    slots: int
    free_slots: int | None

    def faults(self) -> list[str]:
        """What is not as it must be; nothing after a good soak."""
        found = [*self.tally.wrong]
        if (untold := self.tally.wrong_count - len(self.tally.wrong)) > 0:
            found.append(f"{untold} more wrong answers")
        found += [f"after the load {each}" for each in self.busy]
        limits = {
            "memory_mib": self.before.memory_mib * (1 + MORE_MEMORY),
            "threads": self.before.threads + MORE_THREADS,
            "files": self.before.files + MORE_FILES,
            "processes": self.before.processes,
        }
        for name, limit in limits.items():
            was, now = getattr(self.before, name), getattr(self.after, name)
            if now > limit:
                found.append(f"{name}: {was:.0f} before the load, {now:.0f} after it")
        if self.free_slots not in (None, self.slots):
            found.append(f"{self.free_slots} of the engine's {self.slots} slots are free")
        return found

    def told(self) -> str:
        """What a person wants to know of it."""
        tally, before, after = self.tally, self.before, self.after
        outcomes = ", ".join(f"{count} {name}" for name, count in tally.outcomes().items())
        slots = "" if self.free_slots is None else f", {self.free_slots} of {self.slots} slots free"
        kinds = "\n".join(f"  {count:>6}  {name}" for name, count in sorted(tally.ended.items()))
        return (
            f"{kinds}\n"
            f"{tally.requests} requests in {tally.seconds:.0f} s, {CONCURRENCY} at a time: "
            f"{outcomes} as they must be, {tally.wrong_count} wrong\n"
            f"memory {before.memory_mib:.0f} → {after.memory_mib:.0f} MiB, "
            f"threads {before.threads} → {after.threads}, "
            f"open files {before.files} → {after.files}{slots}"
        )


def soak(repository: Path, directory: Path, seconds: float, report: Report) -> Soaked:
    """Serves a repository of the tiny Falcon, and soaks it.

    Args:
        repository: an assembled one.
        directory: for the server's log and image.
        seconds: how long the load lasts, besides its warm-up.
        report: is told the phase, how much of it is done (0 to 1), and its figures.

    Raises:
        SoakError: the load does not run.
        ServerError: the server does not start.
    """
    with serving(repository, directory) as server:
        warm_up = max(_LEAST_WARM_UP_S, seconds * _WARM_UP_SHARE)
        warmed = _load(server, warm_up, "warm-up", report)
        busy = come_to_rest(server)
        before = holdings(server.triton.pid)
        tally = _load(server, seconds, "load", report)
        tally.wrong = [*warmed.wrong, *tally.wrong]
        tally.wrong_count += warmed.wrong_count
        busy += come_to_rest(server)
        after = holdings(server.triton.pid)
        streams = any(name.startswith("generate_stream") for name in tally.ended)
        free = free_slots(server) if streams else None
        return Soaked(tally, before, after, busy, server.slots, free)


def _load(server: Server, seconds: float, phase: str, report: Report) -> Tally:
    """Runs the load in a process of its own, so that it does not wait for the looking on."""
    command = [
        *(sys.executable, "-m", "scripts.soak.load"),
        *(f"--url={server.triton.url}", f"--grpc={server.triton.grpc}"),
        *(f"--seconds={seconds}", f"--concurrency={CONCURRENCY}"),
    ]
    line = ""
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)
            if "requests" in told:
                figures = f"{told['requests']} requests, {told['wrong_count']} wrong"
                report(phase, min(1.0, told["seconds"] / seconds), figures)
    if process.returncode:
        raise SoakError(f"the load ended with {process.returncode}")
    return Tally.from_json(line)
