"""Whether an engine directory holds what was asked for, in the layout of its toolchain.

NVIDIA's tools write one config.json for all ranks. Until 0.7 it tells what the builder was given,
from 0.8 on what the model is and how it was built.
Sources: `builder_config` in NVIDIA/TensorRT-LLM, examples/falcon/build.py of that line;
`pretrained_config` and `build_config` in tensorrt_llm/models/modeling_utils.py (PretrainedConfig),
tensorrt_llm/builder.py (BuildConfig) and tensorrt_llm/quantization/mode.py (QuantAlgo).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from falconry.engine.tensorrt_llm.commands import expected_files
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec
from falconry.errors import EngineError
from falconry.settings import validation_problem

CONFIG = "config.json"

_QUANT_ALGO = {
    "none": None,
    "int8_weight_only": "W8A16",
    "int4_weight_only": "W4A16",
    "fp8": "FP8",
    "int4_awq": "W4A16_AWQ",
}
_CACHE_QUANT_ALGO = {"auto": None, "int8": "INT8", "fp8": "FP8"}


class _Part(BaseModel):
    """A part of config.json; releases add keys, and only those that are compared matter."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _BuilderConfig(_Part):
    name: str
    precision: str
    tensor_parallel: int
    pipeline_parallel: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    hidden_size: int
    vocab_size: int
    max_batch_size: int
    max_input_len: int
    max_output_len: int
    max_num_tokens: int | None = None
    fp8: bool = False


class _BuilderPlugins(_Part):
    paged_kv_cache: bool
    remove_input_padding: bool


class _BuilderLayout(_Part):
    builder_config: _BuilderConfig
    plugin_config: _BuilderPlugins


class _ModelMapping(_Part):
    world_size: int
    tp_size: int
    pp_size: int


class _Quantization(_Part):
    quant_algo: str | None = None
    kv_cache_quant_algo: str | None = None


class _PretrainedConfig(_Part):
    architecture: str
    dtype: str
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    mapping: _ModelMapping
    quantization: _Quantization


class _BuildPlugins(_Part):
    remove_input_padding: bool
    tokens_per_block: int


class _BuildConfig(_Part):
    max_batch_size: int
    max_input_len: int
    max_seq_len: int
    max_num_tokens: int
    max_beam_width: int
    plugin_config: _BuildPlugins


class _PretrainedLayout(_Part):
    pretrained_config: _PretrainedConfig
    build_config: _BuildConfig


def check_layout(engine: Path, spec: GpuEngineSpec) -> None:
    """Compares an engine directory with what was to be built.

    Raises:
        EngineError: a file is missing or empty, config.json is not of the toolchain's layout, or
            it tells of another engine; all differences are named.
    """
    missing = [f"no {name}" for name in expected_files(spec) if not _has_content(engine / name)]
    differences = [] if f"no {CONFIG}" in missing else _differences(engine / CONFIG, spec)
    if faults := [*missing, *differences]:
        raise EngineError(
            f"is not the engine that was asked for: {', '.join(faults)}",
            where=engine,
            remedy="read the build's log, and say whether the toolchain's row fits its image",
        )


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _differences(path: Path, spec: GpuEngineSpec) -> list[str]:
    old = spec.toolchain.layout == "builder_config"
    try:
        text = path.read_bytes()
        layout = (_BuilderLayout if old else _PretrainedLayout).model_validate_json(text)
    except ValidationError as error:
        return [f"{CONFIG} is not of the layout {spec.toolchain.layout} ({_problem(error)})"]
    found = _flat(layout.model_dump())
    expected = _flat(_builder_layout(spec) if old else _pretrained_layout(spec))
    return [
        f"{name} is {found[name]} instead of {value}"
        for name, value in expected.items()
        if found[name] != value
    ]


def _problem(error: ValidationError) -> str:
    return validation_problem(error).replace("(top level): ", "")


def _flat(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _builder_layout(spec: GpuEngineSpec) -> dict[str, object]:
    architecture, recipe = spec.architecture, spec.recipe
    limits, plugins = recipe.limits, recipe.plugins
    return {
        "builder_config": {
            "name": "falcon",
            "precision": recipe.dtype,
            "tensor_parallel": recipe.parallelism.tensor,
            "pipeline_parallel": recipe.parallelism.pipeline,
            "num_layers": architecture.num_layers,
            "num_heads": architecture.num_heads,
            "num_kv_heads": architecture.num_kv_heads,
            "hidden_size": architecture.hidden_size,
            "vocab_size": architecture.vocab_size,
            "max_batch_size": limits.max_batch_size,
            "max_input_len": limits.max_input_len,
            "max_output_len": limits.max_seq_len - limits.max_input_len,
            # Without fused attention the builder takes no such limit.
            "max_num_tokens": limits.max_num_tokens if plugins.context_fmha else None,
            "fp8": recipe.quantization == "fp8",
        },
        "plugin_config": {
            "paged_kv_cache": recipe.kv_cache.type == "paged",
            "remove_input_padding": plugins.remove_input_padding,
        },
    }


def _pretrained_layout(spec: GpuEngineSpec) -> dict[str, object]:
    architecture, recipe = spec.architecture, spec.recipe
    return {
        "pretrained_config": {
            "architecture": "FalconForCausalLM",
            "dtype": recipe.dtype,
            "vocab_size": architecture.vocab_size,
            "hidden_size": architecture.hidden_size,
            "num_hidden_layers": architecture.num_layers,
            "num_attention_heads": architecture.num_heads,
            "num_key_value_heads": architecture.num_kv_heads,
            "mapping": {
                "world_size": recipe.parallelism.world_size,
                "tp_size": recipe.parallelism.tensor,
                "pp_size": recipe.parallelism.pipeline,
            },
            "quantization": {
                "quant_algo": _QUANT_ALGO[recipe.quantization],
                "kv_cache_quant_algo": _CACHE_QUANT_ALGO[recipe.kv_cache.dtype],
            },
        },
        "build_config": {
            **recipe.limits.model_dump(),
            "max_num_tokens": _num_tokens(spec),
            "plugin_config": {
                "remove_input_padding": recipe.plugins.remove_input_padding,
                "tokens_per_block": recipe.kv_cache.tokens_per_block,
            },
        },
    }


def _num_tokens(spec: GpuEngineSpec) -> int:
    """What trtllm-build makes of `max_num_tokens`.

    Source: tensorrt_llm/builder.py, check_max_num_tokens.
    """
    limits, plugins = spec.recipe.limits, spec.recipe.plugins
    most = limits.max_batch_size * limits.max_seq_len
    if not plugins.remove_input_padding:
        return most
    fused = plugins.context_fmha
    least = spec.recipe.kv_cache.tokens_per_block if fused else limits.max_input_len
    return max(min(limits.max_num_tokens, most), least)
