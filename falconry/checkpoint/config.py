"""config.json as a Falcon architecture, checked before anything is built from it.

transformers takes 1.25 s to import, and a checkpoint is read in 0.03 s without it. So the keys and
defaults of its FalconConfig are repeated here; tests/falconry/test_falcon_config.py compares both
on the same configurations.
Source: transformers 5.23, models/falcon/configuration_falcon.py and, for RoPE,
modeling_rope_utils.py (RotaryEmbeddingConfigMixin.convert_rope_params_to_dict).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from falconry.checkpoint.files import (
    CONFIG,
    FETCH_AGAIN,
    read_json,
)
from falconry.checkpoint.token_ids import read_token_ids
from falconry.data_files import validation_problem
from falconry.errors import CheckpointError

_ROPE_THETA = 10_000.0
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
    "num_attention_heads",
    "num_kv_heads",
    "ffn_hidden_size",
    "max_position_embeddings",
    "layer_norm_epsilon",
)
# Far above any Falcon (Falcon-180B has 80 blocks), and low enough to count up to and to multiply.
_MOST = {"num_hidden_layers": 1_000, "max_position_embeddings": 1 << 40}
_MOST_ELSE = 1 << 24
_CAUSAL_LM_CLASSES = {"FalconForCausalLM", "RWForCausalLM"}


@dataclass(frozen=True, slots=True)
class FalconArchitecture:
    """Everything that decides the graph of a Falcon decoder.

    Attributes:
        vocab_size: rows of the embedding; token ids are below it.
        num_kv_heads: key/value heads that exist (1 for multi-query, `num_heads` for multi-head).
        max_positions: longest sequence, prompt and answer together, that the model was made for.
        alibi: positions as ALiBi slopes on the attention scores; otherwise rotary embeddings.
        rope_theta: base of the rotary frequencies; unused with ALiBi.
        new_decoder_architecture: query, key and value rows are stored in groups, one group a
            key/value head (Falcon-40B and later).
        parallel_attention: attention and MLP read the same residual stream side by side.
        separate_mlp_norm: the MLP has a layer norm of its own; otherwise it shares the
            attention's, which only parallel attention can do.
        tied_embeddings: the output projection is the embedding matrix.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    ffn_hidden_size: int
    max_positions: int
    alibi: bool
    rope_theta: float
    new_decoder_architecture: bool
    parallel_attention: bool
    separate_mlp_norm: bool
    bias: bool
    layer_norm_epsilon: float
    tied_embeddings: bool

    @property
    def family(self) -> str:
        """The published model whose block layout this one has."""
        if self.new_decoder_architecture:
            return "falcon-40b" if self.separate_mlp_norm else "falcon2-11b"
        return "falcon-7b" if self.parallel_attention else "falcon-rw"

    @property
    def qkv_size(self) -> int:
        """Rows of the fused query/key/value projection."""
        return (self.num_heads + 2 * self.num_kv_heads) * self.head_size


class _Keys(BaseModel):
    """JSON's own types only; keys without effect here are left out."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class RopeParameters(_Keys):
    """How rotary embeddings turn; `type` is the older name of `rope_type`."""

    rope_theta: PositiveFloat
    rope_type: str = Field(default="default", validation_alias=AliasChoices("rope_type", "type"))


class FalconConfig(_Keys):
    """A Falcon's configuration; the attributes have FalconConfig's names and meanings."""

    vocab_size: int = 65024
    num_hidden_layers: int = 32
    num_attention_heads: PositiveInt = 71
    num_ln_in_parallel_attn: int | None = None
    layer_norm_epsilon: float = 1e-5
    alibi: bool | None = False
    new_decoder_architecture: bool | None = False
    multi_query: bool | None = True
    parallel_attn: bool | None = True
    bias: bool | None = False
    max_position_embeddings: int = 2048
    rope_parameters: RopeParameters
    eos_token_id: int | list[int] | None = 11
    pad_token_id: int | None = None
    activation: str | None = "gelu"
    tie_word_embeddings: bool = True
    given_hidden_size: int = Field(default=4544, alias="hidden_size")
    n_embed: int | None = None
    given_num_kv_heads: int | None = Field(default=None, alias="num_kv_heads")
    given_ffn_hidden_size: int | None = Field(default=None, alias="ffn_hidden_size")

    @model_validator(mode="before")
    @classmethod
    def _with_rope_parameters(cls, values: dict[str, Any]) -> dict[str, Any]:
        rope = values.get("rope_scaling") or values.get("rope_parameters") or {}
        if isinstance(rope, dict):
            rope = {"rope_theta": values.get("rope_theta", _ROPE_THETA), **rope}
        return {**values, "rope_parameters": rope}

    @property
    def hidden_size(self) -> int:
        """The width of the residual stream; `n_embed` is its older name."""
        return self.given_hidden_size if self.n_embed is None else self.n_embed

    @property
    def num_kv_heads(self) -> int:
        """Key/value heads, as many as query heads when they are not given."""
        given = self.given_num_kv_heads
        return self.num_attention_heads if given is None else given

    @property
    def ffn_hidden_size(self) -> int:
        """The MLP's inner size, by default four times the hidden size."""
        given = self.given_ffn_hidden_size
        return 4 * self.hidden_size if given is None else given


@dataclass(frozen=True, slots=True)
class Configuration:
    """What config.json and generation_config.json say.

    Attributes:
        architecture: the model; its `tied_embeddings` is what config.json claims, which the
            weights may yet correct.
        end_ids: tokens that end an answer, the first one first.
    """

    architecture: FalconArchitecture
    end_ids: tuple[int, ...]
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
    """The configuration in the content of a config.json; see `read_configuration`.

    A generation_config.json beside `path`, where the content is from, decides the token ids.
    """
    config = falcon_config_of(raw, path)
    end_ids, pad_id = read_token_ids(raw, path, config.vocab_size)
    return Configuration(_architecture(config), end_ids, pad_id)


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
    if not isinstance(classes, list):
        raise CheckpointError(
            f"architectures is not a list of names, but {classes!r}", where=path, remedy=FETCH_AGAIN
        )
    names = [str(name) for name in classes]
    if names and not _CAUSAL_LM_CLASSES.intersection(names):
        raise CheckpointError(
            f"describes {', '.join(names)}, which does not generate text",
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
        value, most = getattr(config, key), _MOST.get(key, _MOST_ELSE)
        if not value > 0:
            raise CheckpointError(f"{key} is not a positive number", where=path)
        if value > most:
            raise CheckpointError(f"{key} is above {most}, more than any Falcon has", where=path)
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
    """Refuses what transformers cannot run or no builder here builds."""
    rope_type = config.rope_parameters.rope_type
    if not config.alibi and rope_type != "default":
        raise CheckpointError(
            f"asks for RoPE scaling ({rope_type!r}), which is not built", where=path
        )
    if config.activation != "gelu":
        raise CheckpointError(
            f"asks for the activation {config.activation!r}; only 'gelu' is built",
            where=path,
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
