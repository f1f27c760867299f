"""The command lines that build an engine, in the dialect of its toolchain.

Pure: what is run where and how is the container's business. All paths are the container's.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import PurePosixPath

from falconry.engine.tensorrt_llm.places import (
    CALIBRATION,
    CHECKPOINT,
    CONVERTED,
    OUTPUT,
    TIMING_CACHE,
)
from falconry.engine.tensorrt_llm.recipe import Calibration
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec
from falconry.engine.toolchain import Dialect, load_dialect, load_toolchains
from falconry.errors import EngineError

# The shares of a whole build that its first phase takes. Estimates: converting is reading and
# writing the weights, while calibration runs the model.
_CONVERTING = 0.3
_QUANTIZING = 0.6

_PRECISIONS = {"int8_weight_only": "int8", "int4_weight_only": "int4"}
_CALIBRATED = ("fp8", "int4_awq")


@dataclass(frozen=True, slots=True)
class Phase:
    """A program that is run to its end.

    Attributes:
        name: `convert`, `quantize` or `build`.
        step: the same for people.
        programs: candidates; python3 runs the first one that exists, and a name without "/" is
            looked up on the PATH and run as it is.
        span: where the phase begins and ends in the whole build, as fractions.
    """

    name: str
    step: str
    programs: tuple[str, ...]
    arguments: tuple[str, ...]
    span: tuple[float, float]


def phases(spec: GpuEngineSpec, workers: int) -> tuple[Phase, ...]:
    """What is run to build an engine, in order.

    Args:
        spec: the engine.
        workers: ranks that may be built at a time: the GPUs that the container sees.

    Raises:
        EngineError: the toolchain builds no engines, or cannot quantise a Falcon as the recipe
            wants.
    """
    return _Commands(spec, workers).phases()


def expected_files(spec: GpuEngineSpec) -> tuple[str, ...]:
    """The names of the files that a finished engine has at least."""
    parallelism = spec.recipe.parallelism
    ranks = range(parallelism.world_size)
    if spec.toolchain.layout == "pretrained_config":
        return ("config.json", *(f"rank{rank}.engine" for rank in ranks))
    pipeline = f"_pp{parallelism.pipeline}" if parallelism.pipeline > 1 else ""
    stem = f"falcon_{spec.recipe.dtype}_tp{parallelism.tensor}{pipeline}"
    return ("config.json", *(f"{stem}_rank{rank}.engine" for rank in ranks))


def plan_document(spec: GpuEngineSpec, workers: int) -> dict[str, object]:
    """What engine/build.py is told, as JSON values; see places.PLAN.

    Raises:
        EngineError: as for `phases`.
    """
    return {
        "phases": [
            {
                "name": phase.name,
                "step": phase.step,
                "program": list(phase.programs),
                "arguments": list(phase.arguments),
                "span": list(phase.span),
            }
            for phase in phases(spec, workers)
        ],
        "expected": list(expected_files(spec)),
        "versions": {
            "tensorrt_llm": spec.toolchain.tensorrt_llm,
            "tensorrt": spec.toolchain.tensorrt,
        },
    }


def shell_lines(spec: GpuEngineSpec, workers: int) -> list[str]:
    """The phases as lines for a shell inside the container.

    Raises:
        EngineError: as for `phases`.
    """
    return [shlex.join(_command(phase)) for phase in phases(spec, workers)]


def _command(phase: Phase) -> list[str]:
    program = phase.programs[0]
    python = ["python3"] if "/" in program else []
    return [*python, program, *phase.arguments]


class _Commands:
    """The phases of one engine."""

    def __init__(self, spec: GpuEngineSpec, workers: int) -> None:
        self._recipe = spec.recipe
        self._row = spec.toolchain
        self._dialect = load_dialect(spec.toolchain)
        self._parallelism = spec.recipe.parallelism
        self._workers = max(1, min(workers, self._parallelism.world_size))

    def phases(self) -> tuple[Phase, ...]:
        if not self._row.engine_backend:
            raise EngineError(
                f"TensorRT-LLM {self._row.tensorrt_llm} builds no engines",
                where="engine.toolchain",
                remedy=f"set it to {load_toolchains().with_capability('engine_backend').release}",
            )
        first = self._first()
        begin = first.span[1] if first else 0.0
        build = Phase(
            name="build",
            step="building the engine",
            programs=(self._dialect.builder,) if self._dialect.builder else self._row.converter,
            arguments=self._build(),
            span=(begin, 1.0),
        )
        return (first, build) if first else (build,)

    def _first(self) -> Phase | None:
        """What comes before the build: quantising replaces converting."""
        quantization = self._recipe.quantization
        if quantization in _CALIBRATED:
            calibration, quantizer = self._recipe.calibration, self._row.quantizer
            if not (calibration and quantizer) or quantization not in self._formats:
                raise self._impossible()
            return Phase(
                name="quantize",
                step="quantising the checkpoint",
                programs=(quantizer,),
                arguments=self._quantize(calibration),
                span=(0.0, _QUANTIZING),
            )
        if self._dialect.convert:
            return Phase(
                name="convert",
                step="converting the checkpoint",
                programs=self._row.converter,
                arguments=self._convert(),
                span=(0.0, _CONVERTING),
            )
        if quantization != "none":
            raise self._impossible()
        return None

    @property
    def _formats(self) -> dict[str, str]:
        return dict(self._dialect.quantize.formats)

    def _impossible(self) -> EngineError:
        return EngineError(
            f"TensorRT-LLM {self._row.tensorrt_llm} makes no {self._recipe.quantization} engine "
            "of this recipe",
            where="recipe.quantization",
            remedy="choose another quantisation or engine.toolchain, and give [calibration] for "
            "fp8 and int4_awq",
        )

    def _convert(self) -> tuple[str, ...]:
        flags = self._dialect.convert
        assert flags is not None
        line = _Line(self._dialect)
        line.value(flags.checkpoint, CHECKPOINT)
        line.value(flags.output, CONVERTED)
        line.value(flags.dtype, self._recipe.dtype)
        line.value(flags.tensor_parallel, self._parallelism.tensor)
        line.value(flags.pipeline_parallel, self._parallelism.pipeline)
        # Each worker reads the checkpoint for itself: all of it, unless it goes shard by shard.
        line.value(flags.workers, self._workers if self._recipe.load_by_shard else 1)
        line.switch(flags.load_by_shard, self._recipe.load_by_shard)
        if precision := _PRECISIONS.get(self._recipe.quantization):
            line.switch(flags.weight_only, True)
            line.value(flags.weight_only_precision, precision)
        return line.words

    def _quantize(self, calibration: Calibration) -> tuple[str, ...]:
        flags = self._dialect.quantize
        local = PurePosixPath(calibration.dataset).is_absolute()
        line = _Line(self._dialect)
        line.value(flags.checkpoint, CHECKPOINT)
        line.value(flags.output, CONVERTED)
        line.value(flags.dtype, self._recipe.dtype)
        line.value(flags.format, self._formats[self._recipe.quantization])
        line.value(flags.dataset, CALIBRATION if local else calibration.dataset)
        line.value(flags.samples, calibration.size)
        if self._recipe.quantization == "int4_awq":
            line.value(flags.awq_block_size, calibration.awq_block_size)
        if self._recipe.kv_cache.dtype != "auto":
            line.value(flags.cache_dtype, self._recipe.kv_cache.dtype)
        line.value(flags.tensor_parallel, self._parallelism.tensor)
        line.value(flags.pipeline_parallel, self._parallelism.pipeline)
        return line.words

    def _build(self) -> tuple[str, ...]:
        flags = self._dialect.build
        line = _Line(self._dialect)
        line.value(flags.checkpoint, CONVERTED if self._dialect.convert else CHECKPOINT)
        line.value(flags.output, OUTPUT)
        self._build_from_checkpoint(line)
        self._build_limits(line)
        self._build_cache(line)
        self._build_plugins(line)
        line.value(flags.timing_cache_input, TIMING_CACHE)
        line.value(flags.timing_cache_output, TIMING_CACHE)
        line.value(flags.workers, self._workers)
        line.switch(flags.parallel, self._workers == self._parallelism.world_size > 1)
        return line.words

    def _build_from_checkpoint(self, line: _Line) -> None:
        """What a converted checkpoint would have said."""
        flags = self._dialect.build
        line.value(flags.dtype, self._recipe.dtype)
        line.value(flags.world_size, self._parallelism.world_size)
        line.value(flags.tensor_parallel, self._parallelism.tensor)
        line.value(flags.pipeline_parallel, self._parallelism.pipeline)
        line.switch(flags.load_by_shard, self._recipe.load_by_shard)
        if self._recipe.quantization == "fp8" and (scales := self._dialect.quantize.scales):
            line.switch(flags.fp8, True)
            line.value(flags.fp8_scales, CONVERTED / scales)
            line.switch(flags.fp8_cache, self._recipe.kv_cache.dtype == "fp8")

    def _build_limits(self, line: _Line) -> None:
        flags, limits = self._dialect.build, self._recipe.limits
        line.value(flags.max_batch_size, limits.max_batch_size)
        line.value(flags.max_input_len, limits.max_input_len)
        line.value(flags.max_seq_len, limits.max_seq_len)
        line.value(flags.max_output_len, limits.max_seq_len - limits.max_input_len)
        if self._recipe.plugins.context_fmha or not flags.max_num_tokens_needs_context_fmha:
            line.value(flags.max_num_tokens, limits.max_num_tokens)
        line.value(flags.max_beam_width, limits.max_beam_width)

    def _build_cache(self, line: _Line) -> None:
        flags, cache = self._dialect.build, self._recipe.kv_cache
        paged = cache.type == "paged"
        line.value(flags.kv_cache_type, cache.type)
        line.choice(flags.paged_kv_cache, paged)
        line.switch(flags.in_flight_batching, paged and self._recipe.plugins.remove_input_padding)
        line.value(flags.tokens_per_block, cache.tokens_per_block)

    def _build_plugins(self, line: _Line) -> None:
        flags, plugins = self._dialect.build, self._recipe.plugins
        line.plugin(flags.gemm_plugin, self._type(plugins.gemm))
        line.plugin(flags.gpt_attention_plugin, self._type(plugins.gpt_attention))
        line.choice(flags.remove_input_padding, plugins.remove_input_padding)
        line.choice(flags.context_fmha, plugins.context_fmha)
        line.choice(flags.paged_context_fmha, plugins.paged_context_fmha)

    def _type(self, plugin: str) -> str:
        return self._recipe.dtype if plugin == "auto" else plugin


class _Line:
    """Arguments as they are added; a flag that the dialect does not have adds nothing."""

    def __init__(self, dialect: Dialect) -> None:
        self._in_words = dialect.choices == "words"
        self._arguments: list[str] = []

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(self._arguments)

    def value(self, flag: str | None, value: object) -> None:
        """A flag with its value."""
        if flag:
            self._arguments += [flag, str(value)]

    def switch(self, flag: str | None, on: bool) -> None:
        """A flag that is there or not."""
        if flag and on:
            self._arguments.append(flag)

    def choice(self, flag: str | None, on: bool) -> None:
        """Yes or no, in the dialect's way."""
        if self._in_words:
            self.value(flag, "enable" if on else "disable")
        else:
            self.switch(flag, on)

    def plugin(self, flag: str, value: str) -> None:
        """A plugin's type, or that it is off, in the dialect's way."""
        if self._in_words or value != "disable":
            self.value(flag, value)
