"""Reads a build's progress, and its cause of failure, from its output.

`engine/build.py` passes the tools' output on unchanged, with control lines of its own in between:
`::falconry::` and a JSON object.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from falconry.documents import parse_json

CONTROL = "::falconry::"

# What `docker run` exits with when the engine could not start the container
# (docs.docker.com/reference/cli/docker/container/run, "Exit status").
NOT_STARTED = 125

_KILLED = 128 + 9  # SIGKILL, as shells and Docker give it
_LONGEST_LINE = 8 * 1024  # of what is read for its meaning
_LONGEST_PROBLEM = 300
_SEE_LOG = "read the log's end"

_LINE_END = re.compile(rb"[\r\n]+")  # progress bars end their lines with \r
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_WARNING = re.compile(r"\[W\]|\[WARNING\]|\bWARNING\b|Warning:", re.ASCII)
_TRACEBACK = "Traceback (most recent call last)"
_EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*(?P<name>[A-Za-z_]\w*)(?:: (?P<text>.*))?$")
_ERROR = re.compile(r"\[E\]|\[ERROR\]|(?:Error|Exception): |\berror:|\bERROR\b")
_STAMP = re.compile(r"^(?:\[[^\]]*\]\s*)+")  # [11/10/2023-06:30:40] [TRT] [E]


@dataclass(frozen=True, slots=True)
class BuildStep:
    """A build's current step, and the fraction done (0 to 1)."""

    step: str
    fraction: float


@dataclass(frozen=True, slots=True)
class Clue:
    """Lines with a known meaning; `{0}` is the pattern's first group."""

    pattern: re.Pattern[str]
    problem: str
    remedy: str


_HOST_MEMORY = "the host's memory ran out"
_HOST_MEMORY_REMEDY = "build on a machine with more memory"
_NO_GPU = (
    "Docker cannot give the build an NVIDIA GPU",
    "install the NVIDIA driver and the NVIDIA Container Toolkit here, use a GPU runner, "
    "or take the CPU engine with PROFILE=local",
)

# A line of a hostile image must not take long, so no pattern looks for its end from many starts:
# `^(?>.*?x).*y` finds the first x, once, and then y.
# T#N is github.com/NVIDIA/TensorRT-LLM/issues/N.
CLUES = (
    # PyTorch ("CUDA out of memory. Tried to allocate", T#7818), TensorRT-LLM's runtime ("CUDA
    # runtime error in ...: out of memory", T#1060), TensorRT ("Error Code 2: OutOfMemory", T#346;
    # "Cuda Runtime (out of memory)", pytorch/TensorRT#2836).
    Clue(
        re.compile(
            r"CUDA out of memory|^(?>.*?CUDA (?:runtime )?error).*out of memory"
            r"|Error Code 2: OutOfMemory|Cuda Runtime \(out of memory\)",
            re.IGNORECASE,
        ),
        "the GPU's memory ran out (CUDA out of memory)",
        "lower max_batch_size or max_num_tokens in the recipe, or use a larger GPU",
    ),
    # The kernel's out-of-memory killer: a shell says "Killed" (T#489), Python's subprocess "died
    # with <Signals.SIGKILL: 9>", its process pool the last one.
    Clue(
        re.compile(
            r"(?:^|\s)Killed$|SIGKILL|\bsignal 9\b|\bexit (?:status|code) (?:137|-9)\b"
            r"|process pool was terminated abruptly"
        ),
        _HOST_MEMORY,
        _HOST_MEMORY_REMEDY,
    ),
    # Python's argparse; trtllm-build's flags come and go with the release (T#2049, T#2143).
    Clue(
        re.compile(r"error: unrecognized arguments: (.+)"),
        "this release does not know {0}",
        "correct the flag dialect of the toolchain's row, or choose another toolchain",
    ),
    Clue(
        re.compile(r"^(?>.*?error: (?=argument ))(argument .+: (?:invalid|expected) .+)"),
        "this release refuses a flag: {0}",
        "correct the recipe or the toolchain's flag dialect, or choose another toolchain",
    ),
    # T#2400; PyTorch's and CUDA's own words for it (cudaErrorNoKernelImageForDevice).
    Clue(
        re.compile(
            r"(Unsupported SM\S*(?: ?\d+)?|Target GPU SM \d+ is not supported"
            r"|no kernel image is available for execution)"
        ),
        "this release does not support the GPU's architecture ({0})",
        "use a GPU or a toolchain whose row in engine/toolchains.toml lists the other",
    ),
    # T#222, T#3031 and T#1838.
    Clue(
        re.compile(
            r"(engine plan file is generated on an incompatible device[^.]*"
            r"|Failed to deserialize cuda engine|Engine deserialization failed)"
        ),
        "TensorRT cannot read an engine or timing cache of another GPU or version ({0})",
        "remove the timing cache and build again",
    ),
    # NVIDIA/nvidia-docker#1034 and #1637; PyTorch's, CUDA's (cudaErrorNoDevice) and build.py's
    # words inside the container.
    Clue(
        re.compile(
            r"could not select device driver|nvidia-container-cli: |Found no NVIDIA driver"
            r"|no CUDA-capable device is detected|^(?>.*?nvidia-container-runtime-hook).*not found"
            r"|no NVIDIA GPU is visible"
        ),
        *_NO_GPU,
    ),
    # cudaErrorInsufficientDriver's text.
    Clue(
        re.compile(r"CUDA driver version is insufficient"),
        "the NVIDIA driver is too old for this image's CUDA",
        "update the driver, or choose an older toolchain",
    ),
    # ENOSPC's text in the C library.
    Clue(
        re.compile(r"No space left on device"),
        "the disk is full",
        "free some disk space and run again",
    ),
    # docker-init's (tini's) words for a program that is not there; the engine's without it.
    Clue(
        re.compile(r"exec:? \"?(python3)\"?:? (?:failed: No such file|executable file not found)"),
        "the image has no {0}",
        "name an image with TensorRT-LLM, as the toolchain's row does",
    ),
    # What build.py says of an image that is not what its row says.
    Clue(
        re.compile(r"^(the image holds .+ toolchain row says .+)"),
        "{0}",
        "name the image of this toolchain, or the toolchain of this image",
    ),
    # Python's PermissionError. Root's builds run as another user.
    Clue(
        re.compile(r"Permission denied: '/falconry/((?:checkpoint|calibration)[^']*)'"),
        "the build may not read {0}",
        "make these files readable for all users: chmod -R a+rX",
    ),
    # The engine's words for a bind mount's absent source, as a remote engine has none.
    Clue(
        re.compile(r"bind source path does not exist: (\S+)"),
        "the Docker engine does not see {0}",
        "see that it is there, and that the engine is this machine's",
    ),
)

# TensorRT tries tactics that do not fit, says OutOfMemory, and continues without them (T#493;
# NVIDIA/TensorRT#2643).
_RECOVERED = re.compile(r"skipping tactic", re.IGNORECASE)


class BuildLog:
    """Reads a build's output as it comes; keeps what explains a failure.

    `may_load_by_shard` says that the recipe can load shard by shard, which takes less memory.
    """

    def __init__(self, may_load_by_shard: bool = False) -> None:
        self._may_load_by_shard = may_load_by_shard
        self._phase: object = None
        self._step: str | None = None
        self._own_words: str | None = None
        self._tool_end: str | None = None
        self._clue: tuple[str, str] | None = None
        self._error: str | None = None
        self._in_traceback = False

    def read(self, lines: bytes) -> list[BuildStep]:
        """Takes complete lines of the output; gives the progress that they tell."""
        steps = (self._line(line.decode(errors="replace")) for line in _LINE_END.split(lines))
        return [step for step in steps if step]

    def note(self, line: str) -> None:
        """Takes an error from outside the container, such as the engine's refusal."""
        self._error = _shortened(line)
        self.read(line.encode())

    def cause(self, exit_status: int, oom_killed: bool) -> tuple[str, str]:
        """Why the build failed, as a problem and its remedy.

        The exit status is the container's; `oom_killed` says whether the kernel killed one of its
        processes because memory ran out.
        """
        if self._clue and not oom_killed:
            problem, remedy = self._clue
        elif oom_killed or exit_status == _KILLED:
            problem, remedy = f"{_HOST_MEMORY} and the build was killed", _HOST_MEMORY_REMEDY
        elif self._own_words:
            return self._own_words, _SEE_LOG
        else:
            end = self._tool_end or f"the build ended with {exit_status}"
            problem, remedy = self._error or end, _SEE_LOG
        if remedy == _HOST_MEMORY_REMEDY and self._may_load_by_shard:
            remedy += ", or set load_by_shard = true in the recipe"
        return f"{problem}{f' while {self._step}' if self._step else ''}", remedy

    def _line(self, line: str) -> BuildStep | None:
        if line.startswith(CONTROL):
            return self._control(line.removeprefix(CONTROL))
        self._weigh(_COLOUR.sub("", line[:_LONGEST_LINE]).rstrip())
        return None

    def _control(self, text: str) -> BuildStep | None:
        try:
            said: dict[str, Any] = parse_json(text)
            if "status" in said:
                self._tool_end = _shortened(str(said["error"]))
                if said["status"] == _KILLED:
                    self._clue = _HOST_MEMORY, _HOST_MEMORY_REMEDY
                return None
            if "error" in said:
                self._own_words = _shortened(str(said["error"]))
                self._find_clue(self._own_words)
                return None
            step = BuildStep(str(said["step"]), min(max(float(said["fraction"]), 0.0), 1.0))
        except (ValueError, OverflowError, TypeError, KeyError):
            return None  # a tool's line that only looks like ours
        if said.get("phase") != self._phase:
            # What went wrong in an earlier phase was overcome.
            self._clue = self._error = None
        self._phase, self._step = said.get("phase"), step.step
        return step

    def _weigh(self, line: str) -> None:
        if _RECOVERED.search(line):
            self._clue = self._error = None
        elif line.startswith(_TRACEBACK):
            self._in_traceback = True
        elif self._in_traceback and line and not line[0].isspace():
            self._in_traceback = False
            self._keep_error(line)
        elif _ERROR.search(line) and not _WARNING.search(line):
            self._keep_error(line)
        if not _WARNING.search(line):
            self._find_clue(line)

    def _keep_error(self, line: str) -> None:
        exception = _EXCEPTION.match(line)
        text = exception["text"] if exception and exception["text"] else _STAMP.sub("", line)
        self._error = _shortened(text) or self._error

    def _find_clue(self, line: str) -> None:
        for clue in CLUES:
            if found := clue.pattern.search(line):
                words = _shortened(found[found.lastindex or 0].strip())
                self._clue = (clue.problem.format(words), clue.remedy)
                return


def _shortened(text: str) -> str:
    text = text.strip().rstrip(".")
    return text if len(text) <= _LONGEST_PROBLEM else f"{text[:_LONGEST_PROBLEM]}…"
