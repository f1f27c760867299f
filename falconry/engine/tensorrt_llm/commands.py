"""The command lines that build an engine, with the flags of engine/toolchains.toml.

Pure: the container runs them. All paths are the container's; `engine/build.py` knows them from
plan.json alone.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from falconry.checkpoint.architecture import FalconArchitecture
from falconry.engine.tensorrt_llm.recipe import Calibration
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec
from falconry.engine.toolchain import load_toolchains

ROOT = PurePosixPath("/falconry")

# Mounted read-only.
BUILD_SCRIPT = ROOT / "build.py"
ANSWER_SCRIPT = ROOT / "answer.py"
CHECKPOINT = ROOT / "checkpoint"
CALIBRATION = ROOT / "calibration"

# Mounted writable: removed after the build, kept as the engine, kept between builds.
SCRATCH = ROOT / "scratch"
OUTPUT = ROOT / "engine"
CACHE = ROOT / "cache"

PLAN = SCRATCH / "plan.json"
REPORT = SCRATCH / "report.json"
QUESTION = SCRATCH / "question.json"
ENGINE_ANSWERS = SCRATCH / "engine_answers.json"
REFERENCE_ANSWERS = SCRATCH / "reference_answers.json"
CONVERTED = SCRATCH / "checkpoint"
TIMING_CACHE = CACHE / "model.cache"

# The share of a build that its first phase takes. Estimates: converting is reading and writing the
# weights, while calibration runs the model.
_CONVERTING = 0.3
_QUANTIZING = 0.6

_PRECISIONS = {"int8_weight_only": "int8", "int4_weight_only": "int4"}


@dataclass(frozen=True, slots=True)
class Phase:
    """A program that is run to its end.

    Attributes:
        name: `convert`, `quantize` or `build`, or what answers.py calls those after it.
        programs: candidates; python3 runs the first that exists, and a name without "/" is looked
            up on the PATH and run as it is.
        span: where the phase begins and ends in the build, as fractions.
    """

    name: str
    step: str
    programs: tuple[str, ...]
    arguments: tuple[str, ...]
    span: tuple[float, float]


def phases(spec: GpuEngineSpec, workers: int) -> tuple[Phase, ...]:
    """The programs that build an engine, in order, with some workers."""
    return _Commands(spec, workers).phases()


def expected_files(spec: GpuEngineSpec) -> tuple[str, ...]:
    """The names of the files that a finished engine has at least."""
    ranks = range(spec.recipe.parallelism.world_size)
    return ("config.json", *(f"rank{rank}.engine" for rank in ranks))


def plan_document(spec: GpuEngineSpec, phases: Sequence[Phase]) -> dict[str, object]:
    """What engine/build.py reads, as JSON values."""
    return {
        "phases": [
            {
                "name": phase.name,
                "step": phase.step,
                "program": list(phase.programs),
                "arguments": list(phase.arguments),
                "span": list(phase.span),
            }
            for phase in phases
        ],
        "expected": list(expected_files(spec)),
        "versions": {
            "tensorrt_llm": spec.toolchain.tensorrt_llm,
            "tensorrt": spec.toolchain.tensorrt,
        },
    }


def shell_lines(phases: Sequence[Phase]) -> list[str]:
    """The phases as lines for a shell inside the container."""
    return [shlex.join(_command(phase)) for phase in phases]


def _command(phase: Phase) -> list[str]:
    program = phase.programs[0]
    python = ["python3"] if "/" in program else []
    return [*python, program, *phase.arguments]


class _Commands:
    """The phases of one engine."""

    def __init__(self, spec: GpuEngineSpec, workers: int) -> None:
        self._recipe = spec.recipe
        self._row = spec.toolchain
        converters = spec.toolchain.converter
        falcon = isinstance(spec.architecture, FalconArchitecture)
        self._converter = converters.falcon if falcon else converters.llama
        self._flags = load_toolchains().commands
        self._parallelism = spec.recipe.parallelism
        self._workers = max(1, min(workers, self._parallelism.world_size))

    def phases(self) -> tuple[Phase, ...]:
        calibration = self._recipe.calibration
        first = self._quantize(calibration) if calibration else self._convert()
        build = Phase(
            name="build",
            step="building the engine",
            programs=(self._flags.builder,),
            arguments=self._build(),
            span=(first.span[1], 1.0),
        )
        return (first, build)

    def _convert(self) -> Phase:
        flags = self._flags.convert
        line = _Line()
        line.value(flags.checkpoint, CHECKPOINT)
        line.value(flags.output, CONVERTED)
        line.value(flags.dtype, self._recipe.dtype)
        line.value(flags.tensor_parallel, self._parallelism.tensor)
        line.value(flags.pipeline_parallel, self._parallelism.pipeline)
        # Each worker reads all of the checkpoint, unless it reads shard by shard.
        line.value(flags.workers, self._workers if self._recipe.load_by_shard else 1)
        line.switch(flags.load_by_shard, self._recipe.load_by_shard)
        if precision := _PRECISIONS.get(self._recipe.quantization):
            line.switch(flags.weight_only, True)
            line.value(flags.weight_only_precision, precision)
        return Phase(
            name="convert",
            step="converting the checkpoint",
            programs=self._converter,
            arguments=line.words,
            span=(0.0, _CONVERTING),
        )

    def _quantize(self, calibration: Calibration) -> Phase:
        """Quantising replaces converting."""
        flags = self._flags.quantize
        local = PurePosixPath(calibration.dataset).is_absolute()
        line = _Line()
        line.value(flags.checkpoint, CHECKPOINT)
        line.value(flags.output, CONVERTED)
        line.value(flags.dtype, self._recipe.dtype)
        line.value(flags.format, flags.formats[self._recipe.quantization])
        line.value(flags.dataset, CALIBRATION if local else calibration.dataset)
        line.value(flags.samples, calibration.size)
        if self._recipe.quantization == "int4_awq":
            line.value(flags.awq_block_size, calibration.awq_block_size)
        if self._recipe.kv_cache.dtype != "auto":
            line.value(flags.cache_dtype, self._recipe.kv_cache.dtype)
        line.value(flags.tensor_parallel, self._parallelism.tensor)
        line.value(flags.pipeline_parallel, self._parallelism.pipeline)
        return Phase(
            name="quantize",
            step="quantising the checkpoint",
            programs=(self._row.quantizer,),
            arguments=line.words,
            span=(0.0, _QUANTIZING),
        )

    def _build(self) -> tuple[str, ...]:
        flags, limits = self._flags.build, self._recipe.limits
        cache, plugins = self._recipe.kv_cache, self._recipe.plugins
        line = _Line()
        line.value(flags.checkpoint, CONVERTED)
        line.value(flags.output, OUTPUT)
        line.value(flags.max_batch_size, limits.max_batch_size)
        line.value(flags.max_input_len, limits.max_input_len)
        line.value(flags.max_seq_len, limits.max_seq_len)
        line.value(flags.max_num_tokens, limits.max_num_tokens)
        line.value(flags.max_beam_width, limits.max_beam_width)
        line.value(flags.kv_cache_type, cache.type)
        line.value(flags.tokens_per_block, cache.tokens_per_block)
        line.value(flags.gemm_plugin, self._type(plugins.gemm))
        line.value(flags.gpt_attention_plugin, self._type(plugins.gpt_attention))
        line.choice(flags.remove_input_padding, plugins.remove_input_padding)
        line.choice(flags.context_fmha, plugins.context_fmha)
        line.choice(flags.paged_context_fmha, plugins.paged_context_fmha)
        line.value(flags.timing_cache_input, TIMING_CACHE)
        line.value(flags.timing_cache_output, TIMING_CACHE)
        line.value(flags.workers, self._workers)
        return line.words

    def _type(self, plugin: str) -> str:
        return self._recipe.dtype if plugin == "auto" else plugin


class _Line:
    """Arguments as they are added."""

    def __init__(self) -> None:
        self._arguments: list[str] = []

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(self._arguments)

    def value(self, flag: str, value: object) -> None:
        """A flag with its value."""
        self._arguments += [flag, str(value)]

    def switch(self, flag: str, on: bool) -> None:
        """A flag that is there or not."""
        self._arguments += [flag] if on else []

    def choice(self, flag: str, on: bool) -> None:
        """Yes or no, in words."""
        self.value(flag, "enable" if on else "disable")
