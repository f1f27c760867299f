"""config.json of a FalconForCausalLM, checked before anything is built from it.

Source: transformers 5.23, models/falcon/configuration_falcon.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PositiveInt

from falconry.checkpoint.architecture import FalconArchitecture
from falconry.checkpoint.config_keys import (
    RotaryKeys,
    check_heads,
    check_positive,
    check_rope,
    validate_keys,
)
from falconry.errors import CheckpointError

# The names under which Falcon was published before transformers knew it (tiiuae's
# configuration_RW.py, 2023), and whether each means the new decoder architecture.
_LEGACY_MODEL_TYPES = {"RefinedWeb": True, "RefinedWebModel": False}
FALCON_MODEL_TYPES = frozenset({"falcon", *_LEGACY_MODEL_TYPES})
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


class FalconConfig(RotaryKeys):
    """A Falcon's configuration; the attributes have FalconConfig's names and meanings.

    Attributes:
        same_in_all_versions: the keys that transformers 4 reads under the same name and meaning.
    """

    model_type: ClassVar[str] = "falcon"
    model_class: ClassVar[str] = "FalconForCausalLM"
    same_in_all_versions: ClassVar[tuple[str, ...]] = (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_ln_in_parallel_attn",
        "num_kv_heads",
        "ffn_hidden_size",
        "max_position_embeddings",
        "layer_norm_epsilon",
        "alibi",
        "new_decoder_architecture",
        "multi_query",
        "parallel_attn",
        "bias",
        "activation",
        "eos_token_id",
        "pad_token_id",
    )

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
    eos_token_id: int | list[int] | None = 11
    pad_token_id: int | None = None
    activation: str | None = "gelu"
    tie_word_embeddings: bool = True
    given_hidden_size: int = Field(default=4544, alias="hidden_size")
    n_embed: int | None = None
    given_num_kv_heads: int | None = Field(default=None, alias="num_kv_heads")
    given_ffn_hidden_size: int | None = Field(default=None, alias="ffn_hidden_size")

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

    @property
    def existing_kv_heads(self) -> int:
        """Key/value heads: multi_query overrides num_kv_heads in the old architecture."""
        if self.multi_query and not self.new_decoder_architecture:
            return 1
        return self.num_kv_heads

    def architecture(self) -> FalconArchitecture:
        """The decoder that it describes."""
        new, norms = bool(self.new_decoder_architecture), self.num_ln_in_parallel_attn
        return FalconArchitecture(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            num_layers=self.num_hidden_layers,
            num_heads=self.num_attention_heads,
            num_kv_heads=self.existing_kv_heads,
            head_size=self.hidden_size // self.num_attention_heads,
            ffn_hidden_size=self.ffn_hidden_size,
            max_positions=self.max_position_embeddings,
            rope_theta=self.rope_parameters.rope_theta,
            norm_epsilon=self.layer_norm_epsilon,
            tied_embeddings=self.tie_word_embeddings,
            alibi=bool(self.alibi),
            new_decoder_architecture=new,
            parallel_attention=bool(self.parallel_attn),
            separate_mlp_norm=norms != 1 if new else not self.parallel_attn,
            bias=bool(self.bias),
        )


def falcon_config(raw: dict[str, Any], path: Path) -> FalconConfig:
    """The checked configuration in the content of a Falcon's config.json.

    Raises:
        CheckpointError: transformers would not take it, or no engine builder here can build it.
    """
    if raw.get("apply_residual_connection_post_layernorm"):
        raise CheckpointError(
            "sets apply_residual_connection_post_layernorm, which transformers ignores and "
            "Falconry does not support",
            where=path,
        )
    config = validate_keys(_modern(raw), FalconConfig, path)
    check_positive(config, _POSITIVE, path)
    hidden, heads = config.hidden_size, config.num_attention_heads
    check_heads(heads, config.existing_kv_heads, "num_kv_heads", hidden, hidden // heads, path)
    _check_variant(config, path)
    return config


def _modern(raw: dict[str, Any]) -> dict[str, Any]:
    """The same configuration in the key names of transformers' FalconConfig."""
    modern = {key: value for key, value in raw.items() if key not in _LEGACY_KEYS}
    for old, new in _LEGACY_KEYS.items():
        if old in raw:
            modern.setdefault(new, raw[old])
    if raw["model_type"] in _LEGACY_MODEL_TYPES:
        modern["model_type"] = FalconConfig.model_type
        modern.setdefault("new_decoder_architecture", _LEGACY_MODEL_TYPES[raw["model_type"]])
    return modern


def _check_variant(config: FalconConfig, path: Path) -> None:
    """Refuses what transformers cannot run or no builder here builds."""
    if not config.alibi:
        check_rope(config.rope_parameters, path)
    if config.activation != "gelu":
        raise CheckpointError(
            f"asks for the activation {config.activation!r}; only 'gelu' is supported",
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
        raise CheckpointError(
            f"num_ln_in_parallel_attn {norms} does not fit this architecture", where=path
        )
    if not new and not config.multi_query and config.num_kv_heads != config.num_attention_heads:
        raise CheckpointError(
            f"num_kv_heads {config.num_kv_heads} needs new_decoder_architecture or multi_query",
            where=path,
        )
