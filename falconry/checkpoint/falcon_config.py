"""transformers' FalconConfig: the keys of config.json that decide a model, with their defaults.

transformers takes 1.25 s to import, and a checkpoint is read in 0.03 s without it. So its class is
written down once more; tests/falconry/test_falcon_config.py compares what the two make of the same
configurations.
Source: transformers 5.23, models/falcon/configuration_falcon.py and, for RoPE,
modeling_rope_utils.py (RotaryEmbeddingConfigMixin.convert_rope_params_to_dict).
"""

from __future__ import annotations

from typing import Any

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

_ROPE_THETA = 10_000.0


class _Keys(BaseModel):
    """JSON's own types and no others; keys that decide nothing here are left out."""

    model_config = ConfigDict(frozen=True, strict=True)


class RopeParameters(_Keys):
    """How rotary embeddings turn with the position; `type` is the older name of `rope_type`."""

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
    def _with_all_that_is_said_of_rope(cls, values: dict[str, Any]) -> dict[str, Any]:
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
        """The MLP's inner size, four times the hidden size when it is not given."""
        given = self.given_ffn_hidden_size
        return 4 * self.hidden_size if given is None else given
