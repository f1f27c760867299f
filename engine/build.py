#!/usr/bin/env python3
"""Builds TensorRT-LLM engines inside NVIDIA's image, following a plan.

Checks that the image and its GPUs are what the plan expects, runs the image's tools one after the
other, forwards what they print, reports progress, and checks that the engine's files exist. Needs
the standard library of Python 3.12 and NVIDIA's tools. Writes only report.json, beside the plan;
the tools write where their arguments say.

Its own lines begin with `::falconry::` and hold JSON: {"phase", "step", "fraction"}, the fraction
being that of the complete build, or as the last line {"error"}, with exit status 1. If a tool
failed, that line has its "status", and the tool's lines say why. On SIGTERM or SIGINT it stops the
running tool and exits with 143 or 130.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

CONTROL = "::falconry::"

LineReader = Callable[[bytes], None]

# `docker stop` waits ten seconds before it kills a container.
_STOP_GRACE_S = 8
_MAJOR = re.compile(r"\d+")
_NAMES = {"tensorrt_llm": "TensorRT-LLM", "tensorrt": "TensorRT"}


class BuildError(Exception):
    """A failure, as one sentence for the user.

    Attributes:
        facts: the "status" of a tool that failed, as a shell gives it.
    """

    def __init__(self, reason: str, **facts: int) -> None:
        super().__init__(reason)
        self.facts = facts


@dataclass(frozen=True)
class Phase:
    """One tool to run.

    Attributes:
        name: convert, quantize or build; decides how the tool's lines are read.
        step: what is being done, for people.
        program: scripts, of which the first that exists runs, or a program on PATH.
        span: where the phase begins and ends, as fractions of the complete build.
    """

    name: str
    step: str
    program: tuple[str, ...]
    arguments: tuple[str, ...]
    span: tuple[float, float]


@dataclass(frozen=True)
class Plan:
    """What to run and what must come out.

    Attributes:
        expected: files that the build phase must leave in its output directory, not empty.
        versions: what the image must hold, by Python package.
    """

    phases: tuple[Phase, ...]
    expected: tuple[str, ...]
    versions: dict[str, str]

    @property
    def ranks(self) -> int:
        """The number of ranks: each has one engine."""
        return sum(name.endswith(".engine") for name in self.expected) or 1

    @property
    def output(self) -> Path:
        """The output directory of the last phase that has one."""
        arguments = [word for phase in self.phases for word in phase.arguments]
        return Path(arguments[-arguments[::-1].index("--output_dir")])


@dataclass(frozen=True)
class Milestone:
    """A text of a tool, and the phase's share that precedes it."""

    text: str
    share: float
    each_rank: bool = True  # whether every rank prints it


# The texts: NVIDIA/TensorRT-LLM tensorrt_llm/builder.py at 008b2b8, models/falcon/convert.py at
# 201135e, examples/falcon/convert_checkpoint.py at 06255cb, and a log of trtllm-build 0.20.0. The
# quantizer's is modelopt's. The shares are guesses; only the displayed percentage depends on them.
_MILESTONES = {
    "convert": (
        Milestone("Weights loaded. Total time", 0.65),
        Milestone("Total time of converting checkpoints", 0.05, each_rank=False),
    ),
    "quantize": (Milestone("Quantization done. Total time used", 0.5, each_rank=False),),
    "build": (
        Milestone("Build TensorRT engine ", 0.15),
        Milestone("Engine generation completed in", 0.7),
        Milestone("Engine serialized. Total time", 0.15),
    ),
}
# Loading a checkpoint shows a progress bar of tqdm: ` 40%|####      | 2/5`.
_BAR = re.compile(r"\b(\d{1,3})%\|")
_BAR_SHARE = {"convert": 0.3, "quantize": 0.3}


def main(arguments: list[str] | None = None) -> int:
    """Runs a plan and returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="build.py", description="Builds TensorRT-LLM engines inside NVIDIA's image."
    )
    parser.add_argument("plan", type=Path, help="plan.json; report.json is written beside it")
    path = parser.parse_args(arguments).plan
    stop = Stop()
    console = Console(sys.stdout.buffer)
    try:
        plan = read_plan(path)
        report = check_toolchain(plan.versions)
        prepare_cuda(str(report["driver"]), console)
        for phase in plan.phases:
            run_phase(phase, plan.ranks, console, stop)
            check_output(plan, phase)
        write_report(path.with_name("report.json"), report)
    except BuildError as error:
        console.control({"error": str(error), **error.facts})
        return 1
    return 0


def read_plan(path: Path) -> Plan:
    """Reads plan.json."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        phases = tuple(
            Phase(
                name=phase["name"],
                step=phase["step"],
                program=tuple(phase["program"]),
                arguments=tuple(phase["arguments"]),
                span=(float(phase["span"][0]), float(phase["span"][1])),
            )
            for phase in values["phases"]
        )
        plan = Plan(phases, tuple(values["expected"]), dict(values["versions"]))
        _ = plan.output
    except OSError as error:
        raise BuildError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise BuildError(f"{path} is no build plan ({error!r})") from None
    return plan


def check_toolchain(versions: dict[str, str]) -> dict[str, str | int]:
    """Checks the image's versions and the GPUs, and returns what they are."""
    found = {package: package_version(package) for package in _NAMES}
    for package, expected in versions.items():
        _check_version(package, found.get(package), expected)
    return {
        **{package: version or "unknown" for package, version in found.items()},
        "cuda": os.environ.get("CUDA_VERSION", "unknown"),
        "python": platform.python_version(),
        **visible_gpus(),
    }


def package_version(package: str) -> str | None:
    """Returns an installed package's version; None if it is not installed.

    A package without metadata is imported, in a child: importing tensorrt_llm is slow and prints.
    """
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    child = subprocess.run(
        [sys.executable, "-c", f"import {package} as it; print(); print(it.__version__)"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    return child.stdout.split()[-1] if child.returncode == 0 else None


def _check_version(package: str, found: str | None, expected: str) -> None:
    name = _NAMES.get(package, package)
    if found is None:
        raise BuildError(f"the image holds no {name}; the toolchain row says {expected}")
    if package == "tensorrt":  # the fourth part and what follows only count NVIDIA's builds
        same = found.split(".")[:3] == expected.split(".")[:3]
    else:
        same = found == expected
    if not same:
        raise BuildError(f"the image holds {name} {found}, the toolchain row says {expected}")


def visible_gpus() -> dict[str, str | int]:
    """Returns the visible GPUs' name, architecture, driver and number.

    Raises:
        BuildError: there are none, or not all have the same architecture.
    """
    query = ["nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"]
    try:
        table = subprocess.run(query, stdout=subprocess.PIPE, text=True, check=True).stdout
        gpus = [[part.strip() for part in line.split(",")] for line in table.splitlines() if line]
        capabilities = {capability for _, _, capability in gpus}
        architectures = sorted(round(float(capability) * 10) for capability in capabilities)
    except (OSError, ValueError, subprocess.CalledProcessError):
        gpus, architectures = [], []
    if not gpus:
        raise BuildError(
            "no NVIDIA GPU is visible in the container; give it the host's GPUs, which needs the"
            " NVIDIA Container Toolkit"
        )
    if len(architectures) > 1:
        different = ", ".join(f"SM {architecture}" for architecture in architectures)
        raise BuildError(
            f"the container sees GPUs of different architectures ({different}); give it one kind"
        )
    name, driver, _ = gpus[0]
    return {"driver": driver, "gpu": name, "sm": architectures[0], "gpus": len(gpus)}


def prepare_cuda(driver: str, console: Console) -> None:
    """Lets an old driver use the image's libraries, as docker/server/entrypoint.py does."""
    required = os.environ.get("CUDA_DRIVER_VERSION", "")
    found_major, required_major = _MAJOR.match(driver), _MAJOR.match(required)
    if not (found_major and required_major and int(found_major[0]) < int(required_major[0])):
        return
    libraries = f"{os.environ.get('_CUDA_COMPAT_PATH', '/usr/local/cuda/compat')}/lib.real"
    older = f"the driver {driver} is older than {required}, which the image's CUDA wants"
    if not Path(libraries).is_dir():
        console.write(f"{older}, and the image has no {libraries}\n".encode())
        return
    path = [libraries, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    os.environ["LD_LIBRARY_PATH"] = ":".join(path)
    console.write(f"{older}: {libraries} comes first\n".encode())


def run_phase(phase: Phase, ranks: int, console: Console, stop: Stop) -> None:
    """Runs a phase's tool to its end.

    Raises:
        BuildError: the image lacks the tool, or it failed and has printed why.
        SystemExit: a signal stopped it.
    """
    progress = PhaseProgress(phase, ranks)
    console.control(progress.report())
    status = stop.run(_command(phase), lambda line: _read_line(line, progress, console))
    if status < 0:  # ended by a signal; 137 is what a shell makes of the same
        status = 128 - status
    if status != 0:
        tool = Path(phase.program[0]).name
        raise BuildError(f"{tool} ended with status {status}", status=status)
    progress.fraction = 1.0
    console.control(progress.report())


def _read_line(line: bytes, progress: PhaseProgress, console: Console) -> None:
    console.write(line)
    if progress.see(line.decode(errors="replace")):
        console.control(progress.report())


def _command(phase: Phase) -> list[str]:
    for candidate in phase.program:
        if "/" not in candidate and (program := shutil.which(candidate)):
            return [program, *phase.arguments]
        if "/" in candidate and Path(candidate).is_file():
            return [sys.executable, candidate, *phase.arguments]
    raise BuildError(f"{phase.step}: the image has no {' and no '.join(phase.program)}")


class PhaseProgress:
    """A phase's progress by what its tool prints; it never falls."""

    def __init__(self, phase: Phase, ranks: int) -> None:
        self.fraction = 0.0
        self._phase = phase
        self._ranks = ranks
        self._reached: dict[str, int] = {}
        self._bar = 0.0

    def see(self, text: str) -> bool:
        """Reads a line and returns whether the fraction rose."""
        if bar := _BAR.search(text):
            self._bar = max(self._bar, min(int(bar[1]) / 100, 1.0))
        milestones = _MILESTONES.get(self._phase.name, ())
        for milestone in milestones:
            if milestone.text in text:
                self._reached[milestone.text] = self._reached.get(milestone.text, 0) + 1
        now = sum(map(self._done, milestones)) + self._bar * _BAR_SHARE.get(self._phase.name, 0.0)
        before, self.fraction = self.fraction, max(self.fraction, now)
        return self.fraction > before

    def report(self) -> dict[str, str | float]:
        """Returns the control line's values, with the complete build's fraction."""
        start, end = self._phase.span
        total = round(start + (end - start) * self.fraction, 4)
        return {"phase": self._phase.name, "step": self._phase.step, "fraction": total}

    def _done(self, milestone: Milestone) -> float:
        times = self._ranks if milestone.each_rank else 1
        return milestone.share * min(self._reached.get(milestone.text, 0), times) / times


class Console:
    """Standard output: the tools' bytes unchanged, and control lines of their own."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._at_line_start = True

    def write(self, line: bytes) -> None:
        """Forwards what a tool printed."""
        self._stream.write(line)
        self._stream.flush()
        self._at_line_start = line.endswith(b"\n")

    def control(self, values: Mapping[str, str | float]) -> None:
        """Prints a control line."""
        start = b"" if self._at_line_start else b"\n"
        self.write(start + f"{CONTROL}{json.dumps(values)}\n".encode())


class Stop:
    """Runs tools in their own process group; forwards SIGTERM and SIGINT."""

    def __init__(self) -> None:
        self._signal: int | None = None
        self._group: int | None = None
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._handle)

    def run(self, command: list[str], on_line: LineReader) -> int:
        """Runs a tool, reads its lines and returns `subprocess`'s status."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        self._group = process.pid
        assert process.stdout is not None  # it is a pipe
        reader = threading.Thread(target=_read_lines, args=(process.stdout, on_line))
        reader.start()
        # Workers that outlive the tool would keep its output open, and the GPU.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        _signal_group(process.pid, signal.SIGKILL)
        status = process.wait()
        self._group = None
        reader.join()
        if self._signal is not None:
            raise SystemExit(128 + self._signal)
        return status

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        self._signal = signum
        if self._group is None:
            raise SystemExit(128 + signum)
        _signal_group(self._group, signum)
        killer = threading.Timer(_STOP_GRACE_S, _signal_group, (self._group, signal.SIGKILL))
        killer.daemon = True
        killer.start()


def _signal_group(group: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signum)


def _read_lines(stream: IO[bytes], on_line: LineReader) -> None:
    with stream:
        for line in split_lines(stream):
            on_line(line)


def split_lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Splits at line feeds and at the carriage returns of progress bars."""
    rest = b""
    while piece := os.read(stream.fileno(), 65536):
        *lines, rest = re.split(rb"(?<=[\r\n])", rest + piece)
        yield from lines
    if rest:
        yield rest


def check_output(plan: Plan, phase: Phase) -> None:
    """Checks that the build phase wrote all files, none of them empty."""
    for name in plan.expected if phase.name == "build" else ():
        path = plan.output / name
        if not path.is_file():
            raise BuildError(f"the tools ended well but left no {name}")
        if path.stat().st_size == 0:
            raise BuildError(f"the tools ended well but {name} is empty")


def write_report(path: Path, report: dict[str, str | int]) -> None:
    """Writes report.json atomically."""
    temporary = path.with_name(f".{path.name}.making")
    try:
        temporary.write_text(json.dumps(report, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise BuildError(f"{path} cannot be written ({error.strerror})") from None


if __name__ == "__main__":
    sys.exit(main())
