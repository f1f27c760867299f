"""Runs a soak: the server, its warm-up, the load, and what the server still holds."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from falconry.files import remove
from scripts.bench.processes import status_number, with_descendants
from scripts.real_triton import Triton, running_with_all_ports
from scripts.soak.exchange import FRONT_MODEL, LONG_TOKENS, NO_END
from scripts.soak.load import Tally

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

# Requests under way or waiting, in Triton, in the front model and in the front.
_GAUGES = (
    "falconry_requests_in_flight",
    "falconry_requests_waiting",
    "falconry_front_generations_in_flight",
    "falconry_front_generations_queued",
    "nv_inference_pending_request_count",
)
_REST_DEADLINE_S = 15.0
_SETTLING_S = 2.0
# An engine with a request takes one core; the front and the front model take some thousandths of
# one to watch an idle server.
_IDLE_CPU = 0.25
_TURN_DEADLINE_S = 60
_GENERATED = "falconry_generated_tokens_total"

Report = Callable[[str, float, str], None]


class SoakError(Exception):
    """The load does not run; one sentence."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    Attributes:
        triton: where it answers, and its process.
        slots: how many requests its engine answers at a time.
    """

    triton: Triton
    slots: int

    def metrics(self) -> dict[str, float]:
        """Its metrics by name, those of several labels added up."""
        found: dict[str, float] = {}
        with urllib.request.urlopen(f"{self.triton.url}/metrics", timeout=10) as answer:
            for line in answer.read().decode().splitlines():
                if line and not line.startswith("#"):
                    name, value = line.partition("{")[0].split()[0], line.split()[-1]
                    found[name] = found.get(name, 0.0) + float(value)
        return found


@dataclass(frozen=True, slots=True)
class Holdings:
    """All processes of a server together.

    Attributes:
        memory_mib: resident memory that is no file's: anonymous and shared (proc_pid_status(5),
            RssAnon and RssShmem).
        threads: threads.
        files: open file descriptors.
        processes: processes.
    """

    memory_mib: float
    threads: int
    files: int
    processes: int


@dataclass(frozen=True, slots=True)
class Soaked:
    """What a soak has shown.

    Attributes:
        tally: what has come of the requests.
        generated: tokens that the server generated during the load.
        before: what the server held after the warm-up.
        after: what it held after the load.
        busy: what was still under way when nothing should have been.
        slots: how many requests the engine was built to answer at a time.
        free_slots: how many it answered at a time afterwards.
    """

    tally: Tally
    generated: float
    before: Holdings
    after: Holdings
    busy: list[str]
    slots: int
    free_slots: int

    def faults(self) -> list[str]:
        """Everything that is wrong; empty after a good soak."""
        found = [*self.tally.wrong]
        if (unlisted := self.tally.wrong_count - len(self.tally.wrong)) > 0:
            found.append(f"{unlisted} more wrong answers")
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
        if self.free_slots != self.slots:
            found.append(f"{self.free_slots} of the engine's {self.slots} slots are free")
        return found

    def report(self) -> str:
        """Counts, speed and what the server holds, for a person."""
        tally, before, after = self.tally, self.before, self.after
        outcomes = ", ".join(f"{count} {name}" for name, count in tally.outcomes().items())
        slots = f", {self.free_slots} of {self.slots} slots free"
        kinds = "\n".join(f"  {count:>6}  {name}" for name, count in sorted(tally.ended.items()))
        return (
            f"{kinds}\n"
            f"{tally.requests} requests in {tally.seconds:.0f} s, {CONCURRENCY} at a time: "
            f"{outcomes} as they must be, {tally.wrong_count} wrong\n"
            f"{self._speed()}\n"
            f"memory {before.memory_mib:.0f} → {after.memory_mib:.0f} MiB, "
            f"threads {before.threads} → {after.threads}, "
            f"open files {before.files} → {after.files}{slots}"
        )

    def _speed(self) -> str:
        speed = f"{self.generated / self.tally.seconds:.0f} tokens/s generated"
        if not (times := sorted(self.tally.first_token_s)):
            return f"{speed}; no stream had any text"
        slow = times[math.ceil(0.99 * len(times)) - 1]
        return f"{speed}; first text after {median(times):.2f} s (median), {slow:.2f} s (99 %)"


def soak(repository: Path, directory: Path, seconds: float, report: Report) -> Soaked:
    """Serves a repository of the tiny Falcon, and soaks it.

    Args:
        repository: an assembled one.
        directory: for the server's log and image.
        seconds: how long the load lasts, besides its warm-up.
        report: takes the phase, how much of it is done (0 to 1), and its figures.

    Raises:
        SoakError: the load does not run.
        ServerError: the server does not start.
    """
    with serving(repository, directory) as server:
        warm_up = max(_LEAST_WARM_UP_S, seconds * _WARM_UP_SHARE)
        warmed = _load(server, warm_up, "warm-up", report)
        busy = come_to_rest(server)
        before = holdings(server.triton.pid)
        generated = server.metrics()[_GENERATED]
        tally = _load(server, seconds, "load", report)
        generated = server.metrics()[_GENERATED] - generated
        tally.wrong = [*warmed.wrong, *tally.wrong]
        tally.wrong_count += warmed.wrong_count
        busy += come_to_rest(server)
        after = holdings(server.triton.pid)
        free = free_slots(server)
        return Soaked(tally, generated, before, after, busy, server.slots, free)


def _load(server: Server, seconds: float, phase: str, report: Report) -> Tally:
    """Runs the load in a separate process, so that watching it does not slow it."""
    command = [
        *(sys.executable, "-m", "scripts.soak.load"),
        *(f"--url={server.triton.url}", f"--grpc={server.triton.grpc}"),
        *(f"--seconds={seconds}", f"--concurrency={CONCURRENCY}"),
    ]
    line = ""
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            state = json.loads(line)
            if "requests" in state:
                figures = f"{state['requests']} requests, {state['wrong_count']} wrong"
                report(phase, min(1.0, state["seconds"] / seconds), figures)
    if process.returncode:
        raise SoakError(f"the load ended with {process.returncode}")
    return Tally.from_json(line)


@contextlib.contextmanager
def serving(repository: Path, directory: Path) -> Iterator[Server]:
    """Serves a repository.

    Args:
        repository: an assembled one.
        directory: for the log and the server's image.

    Raises:
        ServerError: it does not start.
    """
    models = directory / "models"
    slots = _copy_with_little_cache(repository, models)
    with running_with_all_ports(models, directory) as triton:
        yield Server(triton, slots)


def _copy_with_little_cache(repository: Path, models: Path) -> int:
    """Copies a repository with twice the cache that its slots need; gives their number.

    The pool's memory is taken block by block as fresh ones are used, up to 2 GiB with the recipe
    `cpu` (OpenVINO GenAI 2026.4.1, measured). So a leak would be hidden behind it for hours.
    """
    remove(models)
    shutil.copytree(repository, models)
    path = models / "tensorrt_llm" / "1" / "engine.json"
    engine = json.loads(path.read_bytes())
    slots: int = engine["max_batch_size"]
    blocks = math.ceil(engine["max_seq_len"] / engine["kv_block_tokens"])
    engine["scheduler"]["num_kv_blocks"] = 2 * slots * blocks
    path.write_text(json.dumps(engine), encoding="utf-8")
    return slots


def holdings(pid: int) -> Holdings:
    """What a process and all below it hold now."""
    memory_kib = threads = files = processes = 0
    for each in with_descendants(pid):
        with contextlib.suppress(OSError):  # a process that has just ended
            files += len(list(Path(f"/proc/{each}/fd").iterdir()))
            memory_kib += status_number(each, "RssAnon") + status_number(each, "RssShmem")
            threads += status_number(each, "Threads")
            processes += 1
    return Holdings(memory_kib / 1024, threads, files, processes)


def cpu_seconds(pid: int) -> float:
    """The CPU time that a process and all below it have taken (proc_pid_stat(5))."""
    ticks = 0
    for each in with_descendants(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def come_to_rest(server: Server) -> list[str]:
    """Waits until nothing is under way; gives what still is."""
    deadline = time.monotonic() + _REST_DEADLINE_S
    while (busy := _busy(server.metrics())) and time.monotonic() < deadline:
        time.sleep(0.2)
    before, started = cpu_seconds(server.triton.pid), time.monotonic()
    time.sleep(_SETTLING_S)
    share = (cpu_seconds(server.triton.pid) - before) / (time.monotonic() - started)
    if share > _IDLE_CPU:
        busy.append(f"the idle server takes {share:.0%} of a core: something is still generated")
    return busy


def _busy(metrics: Mapping[str, float]) -> list[str]:
    # A gauge that is missing would always be 0.
    return [f"{name} is {metrics.get(name)}" for name in _GAUGES if metrics.get(name) != 0]


def free_slots(server: Server) -> int:
    """How many requests the engine answers at a time, of as many as it was built for.

    A request counts when its first text comes before any of them ends: a request that waits for a
    slot gets its first text only after that.
    """
    ended = threading.Event()

    def in_time() -> bool:
        with urllib.request.urlopen(_long_stream(server), timeout=_TURN_DEADLINE_S) as answer:
            answer.readline()
            begun_in_time = not ended.is_set()
            answer.read()
        ended.set()
        return begun_in_time

    with ThreadPoolExecutor(server.slots) as pool:
        return sum(each.result() for each in [pool.submit(in_time) for _ in range(server.slots)])


def _long_stream(server: Server) -> urllib.request.Request:
    body = {"text_input": "A", "max_tokens": LONG_TOKENS, "end_id": NO_END, "stream": True}
    path = f"/v2/models/{FRONT_MODEL}/generate_stream"
    return urllib.request.Request(f"{server.triton.url}{path}", json.dumps(body).encode())
