"""From config.json to a Falcon architecture, checked before anything is built from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from falconry.checkpoint.architecture import FalconArchitecture
from falconry.checkpoint.falcon_config import FalconConfig
from falconry.checkpoint.files import CONFIG, GENERATION_CONFIG, read_json
from falconry.data_files import validation_problem
from falconry.errors import CheckpointError

# The names under which Falcon was published before transformers knew it (tiiuae's
# configuration_RW.py, 2023), and whether each means the new decoder architecture.
_LEGACY_MODEL_TYPES = {"RefinedWeb": True, "RefinedWebModel": False}
_LEGACY_KEYS = {
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_head_kv": "num_kv_heads",
}
_POSITIVE = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_kv_heads",
    "ffn_hidden_size",
    "max_position_embeddings",
    "layer_norm_epsilon",
)
_CAUSAL_LM_CLASSES = {"FalconForCausalLM", "RWForCausalLM"}


@dataclass(frozen=True, slots=True)
class Configuration:
    """What config.json and generation_config.json say.

    Attributes:
        architecture: the model; its `tied_embeddings` is what config.json claims, which the
            weights may yet correct.
        end_id: token that ends an answer, None when there is none.
        pad_id: token that fills a batch.
    """

    architecture: FalconArchitecture
    end_id: int | None
    pad_id: int


def read_configuration(directory: Path) -> Configuration:
    """Reads and checks the configuration of a checkpoint.

    Raises:
        CheckpointError: it is absent or damaged, not a Falcon's, or of a Falcon that no engine
            builder here can build.
    """
    path = directory / CONFIG
    return configuration_of(read_json(path), path)


def configuration_of(raw: dict[str, Any], path: Path) -> Configuration:
    """The configuration that the content of a config.json stands for; see `read_configuration`.

    Args:
        raw: the content.
        path: where it is from; a generation_config.json beside it has its say.
    """
    config = falcon_config_of(raw, path)
    end_id, pad_id = _token_ids(config, path)
    return Configuration(_architecture(config), end_id, pad_id)


def falcon_config_of(raw: dict[str, Any], path: Path) -> FalconConfig:
    """The checked content of a config.json in transformers' names; see `read_configuration`."""
    _refuse_other_models(raw, path)
    _refuse_unbuildable(raw, path)
    config = _falcon_config(_modern(raw), path)
    _check_dimensions(config, path)
    _check_variant(config, path)
    return config


def _refuse_other_models(raw: dict[str, Any], path: Path) -> None:
    model_type = str(raw.get("model_type"))
    if model_type != "falcon" and model_type not in _LEGACY_MODEL_TYPES:
        hint = " (Falcon3 is a Llama)" if model_type == "llama" else ""
        raise CheckpointError(
            f"describes a model of type {model_type!r}, not a Falcon{hint}",
            where=path,
            remedy="use a checkpoint of Falcon-RW, Falcon-7B/40B/180B or Falcon2-11B",
        )
    classes = raw.get("architectures") or []
    if classes and not _CAUSAL_LM_CLASSES.intersection(classes):
        raise CheckpointError(
            f"describes {', '.join(map(str, classes))}, which does not generate text",
            where=path,
            remedy="use a checkpoint saved from FalconForCausalLM",
        )


def _refuse_unbuildable(raw: dict[str, Any], path: Path) -> None:
    if quantization := raw.get("quantization_config"):
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        raise CheckpointError(
            f"describes a checkpoint already quantised ({method or 'unknown method'})",
            where=path,
            remedy="use the unquantised checkpoint; the recipe decides the quantisation",
        )
    if raw.get("apply_residual_connection_post_layernorm"):
        raise CheckpointError(
            "sets apply_residual_connection_post_layernorm, which transformers ignores and "
            "no engine builds",
            where=path,
        )


def _modern(raw: dict[str, Any]) -> dict[str, Any]:
    """The same configuration in the key names of transformers' FalconConfig."""
    modern = {key: value for key, value in raw.items() if key not in _LEGACY_KEYS}
    for old, new in _LEGACY_KEYS.items():
        if old in raw:
            modern.setdefault(new, raw[old])
    if raw["model_type"] in _LEGACY_MODEL_TYPES:
        modern["model_type"] = "falcon"
        modern.setdefault("new_decoder_architecture", _LEGACY_MODEL_TYPES[raw["model_type"]])
    return modern


def _falcon_config(values: dict[str, Any], path: Path) -> FalconConfig:
    try:
        return FalconConfig.model_validate(values)
    except ValidationError as error:
        raise CheckpointError(
            f"is not accepted by transformers ({validation_problem(error)})",
            where=path,
            remedy="correct the value",
        ) from error


def _check_dimensions(config: FalconConfig, path: Path) -> None:
    for key in _POSITIVE:
        if not getattr(config, key) > 0:
            raise CheckpointError(f"{key} is not a positive number", where=path)
    hidden, heads, kv_heads = config.hidden_size, config.num_attention_heads, _kv_heads(config)
    if hidden % heads:
        raise CheckpointError(
            f"hidden_size {hidden} is not a multiple of num_attention_heads {heads}", where=path
        )
    if heads % kv_heads:
        raise CheckpointError(
            f"num_attention_heads {heads} is not a multiple of num_kv_heads {kv_heads}", where=path
        )
    if (hidden // heads) % 2:
        raise CheckpointError(
            f"the head size {hidden // heads} is odd, which transformers refuses", where=path
        )


def _check_variant(config: FalconConfig, path: Path) -> None:
    """Refuses what transformers cannot run either, and what no engine builder here builds."""
    rope_type = config.rope_parameters.rope_type
    if not config.alibi and rope_type != "default":
        raise CheckpointError(
            f"asks for RoPE scaling ({rope_type!r}), which is not built", where=path
        )
    if config.activation != "gelu":
        raise CheckpointError(
            f"asks for the activation {config.activation!r}; only 'gelu' is built", where=path
        )
    norms, new = config.num_ln_in_parallel_attn, config.new_decoder_architecture
    if new and not config.parallel_attn:
        raise CheckpointError(
            "combines new_decoder_architecture with parallel_attn = false, which transformers "
            "cannot run",
            where=path,
        )
    if norms not in ((None, 1, 2) if new else (None, 1)):
        raise CheckpointError(f"num_ln_in_parallel_attn {norms} has no meaning here", where=path)
    if not new and not config.multi_query and config.num_kv_heads != config.num_attention_heads:
        raise CheckpointError(
            f"num_kv_heads {config.num_kv_heads} needs new_decoder_architecture or multi_query",
            where=path,
        )


def _architecture(config: FalconConfig) -> FalconArchitecture:
    new = bool(config.new_decoder_architecture)
    return FalconArchitecture(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        num_kv_heads=_kv_heads(config),
        head_size=config.hidden_size // config.num_attention_heads,
        ffn_hidden_size=config.ffn_hidden_size,
        max_positions=config.max_position_embeddings,
        alibi=bool(config.alibi),
        rope_theta=config.rope_parameters.rope_theta,
        new_decoder_architecture=new,
        parallel_attention=bool(config.parallel_attn),
        separate_mlp_norm=config.num_ln_in_parallel_attn != 1 if new else not config.parallel_attn,
        bias=bool(config.bias),
        layer_norm_epsilon=config.layer_norm_epsilon,
        tied_embeddings=config.tie_word_embeddings,
    )


def _kv_heads(config: FalconConfig) -> int:
    """Key/value heads that exist: multi_query overrides num_kv_heads in the old architecture."""
    if config.multi_query and not config.new_decoder_architecture:
        return 1
    return config.num_kv_heads


def _token_ids(config: FalconConfig, config_path: Path) -> tuple[int | None, int]:
    """The ids that end an answer and that pad, as transformers' generate() would choose them."""
    path = config_path.with_name(GENERATION_CONFIG)
    if path.is_file():
        ids = read_json(path)
    else:
        path = config_path
        ids = {key: getattr(config, key) for key in ("eos_token_id", "pad_token_id")}
    end_id, pad_id = ids.get("eos_token_id"), ids.get("pad_token_id")
    if isinstance(end_id, list):
        end_id = end_id[0] if end_id else None
    for key, value in (("eos_token_id", end_id), ("pad_token_id", pad_id)):
        if value is not None and value not in range(config.vocab_size):
            raise CheckpointError(
                f"{key} {value!r} is not a number below vocab_size {config.vocab_size}",
                where=path,
                remedy="correct the id",
            )
    if pad_id is None:
        pad_id = end_id if end_id is not None else 0
    return end_id, pad_id
