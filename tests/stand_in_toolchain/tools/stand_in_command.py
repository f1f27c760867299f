"""STAND-IN, not NVIDIA's: the command line, the log lines and the faults of the stand-in tools.

Environment:
    STAND_IN_FAULT: `<phase>:<kind>[@<fraction>]`, where the phase is convert, quantize or build,
        the fraction says how much of its work is done before (0.5 unless told), and the kind is
        oom: the GPU's memory is used up; exit status 1.
        killed: it kills itself as the kernel's out-of-memory killer does.
        hang: it sleeps for ever.
        half: the next file stays empty, the rest is not written, exit status 0.
        unsupported: TensorRT does not know the GPU; exit status 1.
        flag: the first flag is refused as one that the release does not have; exit status 2.
        Of the phases `ask engine` and `ask reference`, see stand_in_answers.py.
    STAND_IN_STEP_SECONDS: how long each step of the work takes; 0 unless told.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# The lines as users quote them: NVIDIA/TensorRT-LLM issues 346 and 2400; PyTorch's own for convert.
_TENSORRT_OOM = "[virtualMemoryBuffer.cpp::resizePhysical::140] Error Code 2: OutOfMemory"
_TENSORRT_SM = (
    "IBuilder::buildSerializedNetwork: Error Code 9: API Usage Error"
    " (Target GPU SM 70 is not supported by this TensorRT release.)"
)
_ENGINE_FAILED = "AssertionError: Engine building failed, please check the error log."
_TORCH_OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 316.00 MiB."


@dataclass(frozen=True)
class Step:
    """A piece of a tool's work: what it writes, where and what, and the line printed after.

    A bar's line begins with a carriage return, as those of tqdm do.
    """

    line: str
    place: Path | None = None
    write: Callable[[Path], None] | None = None
    bar: bool = False


class Command:
    """The command line of one stand-in tool: the flags that the release documents and no others."""

    def __init__(self, phase: str) -> None:
        self.phase = phase
        flags = json.loads(Path(__file__).with_name("flags.json").read_text())
        choices = flags.get("choices", {}).get(phase, {})
        self._parser = argparse.ArgumentParser(allow_abbrev=False)
        for flag, kind in flags[phase].items():
            if kind == "switch":
                self._parser.add_argument(flag, action="store_true")
            else:
                self._parser.add_argument(flag, choices=choices.get(flag))

    def parse(self) -> argparse.Namespace:
        if fault_of(self.phase)[0] == "flag":
            self._parser.error(f"unrecognized arguments: {sys.argv[1]}")
        return self._parser.parse_args()

    def integer(self, values: argparse.Namespace, name: str, default: int | None) -> int:
        value = getattr(values, name, None)
        if value is None:
            return default
        try:
            return int(value)
        except ValueError:
            self._parser.error(f"argument --{name}: invalid int value: {value!r}")


def log(text: str, severity: str = "I", source: str = "TRT-LLM") -> None:
    """Prints a line in TensorRT-LLM's format."""
    print(f"{time.strftime('[%m/%d/%Y-%H:%M:%S]')} [{source}] [{severity}] {text}", flush=True)


def work(phase: str, steps: list) -> None:
    """Does all steps, or as many as the fault allows."""
    kind, fraction = fault_of(phase)
    for number, step in enumerate(steps):
        time.sleep(float(os.environ.get("STAND_IN_STEP_SECONDS", "0")))
        if kind and number >= int(fraction * len(steps)):
            _fail(kind, phase, step)
        if step.write:
            step.write(step.place)
        if step.bar:
            print(f"\r{step.line}", end="", file=sys.stderr, flush=True)
        else:
            log(step.line)


def fault_of(phase: str) -> tuple:
    place, _, fraction = os.environ.get("STAND_IN_FAULT", "").partition("@")
    wanted, _, kind = place.partition(":")
    return (kind, float(fraction or 0.5)) if wanted == phase else ("", 0.0)


def _fail(kind: str, phase: str, step: Step) -> None:
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "hang":
        while True:
            time.sleep(60)
    if kind == "half" and step.place:
        step.place.write_bytes(b"")
        sys.exit(0)
    if kind == "oom" and phase != "build":
        sys.exit(_TORCH_OOM)
    if kind in ("oom", "unsupported"):
        log(_TENSORRT_OOM if kind == "oom" else _TENSORRT_SM, "E", "TRT")
        sys.exit(_ENGINE_FAILED)
