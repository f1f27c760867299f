"""NVIDIA's config.json of an engine, read and compared with a spec.

Sources, NVIDIA/TensorRT-LLM: tensorrt_llm/models/modeling_utils.py (PretrainedConfig),
models/falcon/config.py at 8f91cff22e7c and models/llama/config.py of 0.16 and 1.x
(from_hugging_face: which field of a checkpoint becomes which), tensorrt_llm/builder.py at
008b2b8d23af (BuildConfig) and quantization/mode.py (QuantAlgo).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from falconry.checkpoint.architecture import Architecture, FalconArchitecture
from falconry.data_files import validation_problem
from falconry.engine.tensorrt_llm.commands import expected_files
from falconry.engine.tensorrt_llm.quantization_checks import awq_vocabulary
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec
from falconry.errors import EngineError

CONFIG = "config.json"

_ROTARY = "rope_gpt_neox"

_QUANT_ALGO = {
    "none": None,
    "int8_weight_only": "W8A16",
    "int4_weight_only": "W4A16",
    "fp8": "FP8",
    "int4_awq": "W4A16_AWQ",
}
_CACHE_QUANT_ALGO = {"auto": None, "int8": "INT8", "fp8": "FP8"}


class _Part(BaseModel):
    """A part of config.json; keys that are not compared are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _Moe(_Part):
    num_experts: int = 0


class _Mapping(_Part):
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
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_size: int
    norm_epsilon: float
    position_embedding_type: str
    max_position_embeddings: int
    rotary_base: float
    # Falcon's own.
    bias: bool | None = None
    parallel_attention: bool | None = None
    new_decoder_architecture: bool | None = None
    # models/falcon/model.py at 585c756579dc: None counts as 2 with the new decoder architecture.
    num_ln_in_parallel_attn: Annotated[int, BeforeValidator(lambda given: given or 2)] = 2
    # Llama's own, which change what a layer computes.
    hidden_act: str | None = None
    rotary_scaling: Annotated[str | None, BeforeValidator(lambda given: given and str(given))] = (
        None
    )
    mlp_bias: bool | None = None
    attn_bias: bool | None = None
    residual_mlp: bool | None = None
    qk_layernorm: bool = False
    moe: _Moe = _Moe()
    mapping: _Mapping
    quantization: _Quantization


class _PluginConfig(_Part):
    remove_input_padding: bool
    context_fmha: bool
    tokens_per_block: int
    use_paged_context_fmha: bool = False


class _BuildConfig(_Part):
    max_batch_size: int
    max_input_len: int
    max_seq_len: int
    max_num_tokens: int
    max_beam_width: int
    plugin_config: _PluginConfig


class _Document(_Part):
    version: str
    pretrained_config: _PretrainedConfig
    build_config: _BuildConfig


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """An engine's directory, config.json, and engine files, one a GPU."""

    directory: Path
    document: _Document
    ranks: tuple[str, ...]

    @classmethod
    def read(cls, directory: Path) -> EngineConfig:
        """Reads an engine's config.json.

        Raises:
            EngineError: there is none, or it is not one of TensorRT-LLM 0.19 to 1.2.
        """
        path = directory / CONFIG
        try:
            document = _Document.model_validate_json(path.read_bytes())
        except OSError as error:
            raise EngineError(f"cannot be read ({error.strerror})", where=path) from None
        except ValidationError as error:
            problem = validation_problem(error).replace("(top level): ", "")
            raise EngineError(f"is not the {CONFIG} of an engine ({problem})", where=path) from None
        ranks = tuple(sorted(file.name for file in directory.glob("*.engine")))
        return cls(directory, document, ranks)

    @property
    def tensorrt_llm(self) -> str:
        """The version that built it."""
        return self.document.version

    @property
    def limits(self) -> _BuildConfig:
        """Its sizes; lengths in tokens."""
        return self.document.build_config

    @property
    def mapping(self) -> _Mapping:
        """How it is split over GPUs."""
        return self.document.pretrained_config.mapping

    @property
    def paged_context_fmha(self) -> bool:
        """Whether long prompts can be computed in steps, and shared beginnings once."""
        return self.limits.plugin_config.use_paged_context_fmha

    def longest_prompt(self, chunked: bool) -> int:
        """The longest prompt that NVIDIA's backend takes; `chunked`, in steps.

        Source: NVIDIA/TensorRT-LLM, cpp/tensorrt_llm/batch_manager/trtGptModel.h, which logs the
        rule as "TRTGptModel maxInputLen".
        """
        plugins = self.limits.plugin_config
        if chunked:
            return self.limits.max_seq_len - 1
        if plugins.context_fmha and plugins.remove_input_padding:
            return min(self.limits.max_seq_len - 1, self.limits.max_num_tokens)
        return self.limits.max_input_len

    def differences(self, spec: GpuEngineSpec) -> list[str]:
        """What differs from the spec, as clauses."""
        return _differences(self.document, _expected(spec))


def check_engine(directory: Path, spec: GpuEngineSpec) -> None:
    """Compares an engine directory with the spec it was built from.

    Raises:
        EngineError: a file is missing or empty, config.json cannot be read, or it describes
            another engine; all differences are named.
    """
    missing = [f"no {name}" for name in expected_files(spec) if not _has_content(directory / name)]
    differences = [] if missing else EngineConfig.read(directory).differences(spec)
    if faults := [*missing, *differences]:
        raise EngineError(
            f"is not the engine that was requested: {', '.join(faults)}",
            where=directory,
            remedy="read the build's log, and report it: NVIDIA's tools built another model",
        )


def converted_differences(config: Mapping[str, object], architecture: Architecture) -> list[str]:
    """What differs between a converted checkpoint's config.json and an architecture."""
    expected = {**_model(architecture), "vocab_size": architecture.vocab_size}
    return _differences(_PretrainedConfig.model_validate(config), expected)


def _differences(found: _Part, expected: Mapping[str, object]) -> list[str]:
    values = dict(_flat(found.model_dump()))
    return [
        f"{name} is {values[name]} instead of {value}"
        for name, value in _flat(expected)
        if values[name] != value
    ]


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _expected(spec: GpuEngineSpec) -> dict[str, object]:
    recipe = spec.recipe
    return {
        "version": spec.toolchain.tensorrt_llm,
        "pretrained_config": {
            **_model(spec.architecture),
            "vocab_size": _vocab_size(spec),
            "dtype": recipe.dtype,
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
                "context_fmha": recipe.plugins.context_fmha,
                "tokens_per_block": recipe.kv_cache.tokens_per_block,
            },
        },
    }


def _model(architecture: Architecture) -> dict[str, object]:
    """A checkpoint's architecture by the names of NVIDIA's configurations."""
    common: dict[str, object] = {
        "hidden_size": architecture.hidden_size,
        "intermediate_size": architecture.ffn_hidden_size,
        "num_hidden_layers": architecture.num_layers,
        "num_attention_heads": architecture.num_heads,
        "num_key_value_heads": architecture.num_kv_heads,
        "head_size": architecture.head_size,
        "norm_epsilon": architecture.norm_epsilon,
        "max_position_embeddings": architecture.max_positions,
    }
    if isinstance(architecture, FalconArchitecture):
        return {**common, **_falcon(architecture)}
    return {
        **common,
        "architecture": "LlamaForCausalLM",
        "position_embedding_type": _ROTARY,
        "rotary_base": architecture.rope_theta,
        "rotary_scaling": None,
        "hidden_act": "silu",
        "mlp_bias": False,
        "attn_bias": False,
        "residual_mlp": False,
        "qk_layernorm": False,
        "moe": {"num_experts": 0},
    }


def _falcon(architecture: FalconArchitecture) -> dict[str, object]:
    new = architecture.new_decoder_architecture
    return {
        "architecture": "FalconForCausalLM",
        "position_embedding_type": "alibi_with_scale" if architecture.alibi else _ROTARY,
        **({} if architecture.alibi else {"rotary_base": architecture.rope_theta}),
        "bias": architecture.bias,
        "parallel_attention": architecture.parallel_attention,
        "new_decoder_architecture": new,
        # Only the new decoder architecture has it.
        **({"num_ln_in_parallel_attn": 2 if architecture.separate_mlp_norm else 1} if new else {}),
    }


def _vocab_size(spec: GpuEngineSpec) -> int:
    size = spec.architecture.vocab_size
    return awq_vocabulary(size) if spec.recipe.quantization == "int4_awq" else size


def _num_tokens(spec: GpuEngineSpec) -> int:
    """The `max_num_tokens` that trtllm-build uses (builder.py, check_max_num_tokens)."""
    limits, plugins = spec.recipe.limits, spec.recipe.plugins
    most = limits.max_batch_size * limits.max_seq_len
    if not plugins.remove_input_padding:
        return most
    fused = plugins.context_fmha
    least = spec.recipe.kv_cache.tokens_per_block if fused else limits.max_input_len
    return max(min(limits.max_num_tokens, most), least)
