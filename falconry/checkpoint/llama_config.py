"""config.json of a LlamaForCausalLM, which every Falcon3 is, checked before anything is built.

Source: transformers 5.23, models/llama/configuration_llama.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PositiveInt

from falconry.checkpoint.architecture import LlamaArchitecture
from falconry.checkpoint.config_keys import (
    RotaryKeys,
    check_heads,
    check_positive,
    check_rope,
    validate_keys,
)
from falconry.errors import CheckpointError

_POSITIVE = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "max_position_embeddings",
    "rms_norm_eps",
)


class LlamaConfig(RotaryKeys):
    """A Llama's configuration; the attributes have LlamaConfig's names and meanings.

    Attributes:
        same_in_all_versions: the keys that transformers 4 reads under the same name and meaning.
    """

    model_type: ClassVar[str] = "llama"
    model_class: ClassVar[str] = "LlamaForCausalLM"
    same_in_all_versions: ClassVar[tuple[str, ...]] = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "hidden_act",
        "max_position_embeddings",
        "rms_norm_eps",
        "attention_bias",
        "mlp_bias",
        "eos_token_id",
        "pad_token_id",
    )

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: PositiveInt = 32
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    pad_token_id: int | None = None
    eos_token_id: int | list[int] | None = 2
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    given_num_key_value_heads: int | None = Field(default=None, alias="num_key_value_heads")
    given_head_dim: int | None = Field(default=None, alias="head_dim")

    @property
    def num_key_value_heads(self) -> int:
        """Key/value heads, as many as query heads when they are not given."""
        given = self.given_num_key_value_heads
        return self.num_attention_heads if given is None else given

    @property
    def head_dim(self) -> int:
        """The width of a head, a share of the hidden size when it is not given."""
        given = self.given_head_dim
        return self.hidden_size // self.num_attention_heads if given is None else given

    def architecture(self) -> LlamaArchitecture:
        """The decoder that it describes."""
        return LlamaArchitecture(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            num_layers=self.num_hidden_layers,
            num_heads=self.num_attention_heads,
            num_kv_heads=self.num_key_value_heads,
            head_size=self.head_dim,
            ffn_hidden_size=self.intermediate_size,
            max_positions=self.max_position_embeddings,
            rope_theta=self.rope_parameters.rope_theta,
            norm_epsilon=self.rms_norm_eps,
            tied_embeddings=self.tie_word_embeddings,
        )


def llama_config(raw: dict[str, Any], path: Path) -> LlamaConfig:
    """The checked configuration in the content of a Llama's config.json.

    Raises:
        CheckpointError: transformers would not take it, or no engine builder here can build it.
    """
    config = validate_keys(raw, LlamaConfig, path)
    check_positive(config, _POSITIVE, path)
    check_heads(
        config.num_attention_heads,
        config.num_key_value_heads,
        "num_key_value_heads",
        config.hidden_size,
        config.head_dim,
        path,
    )
    check_rope(config.rope_parameters, path)
    if config.hidden_act != "silu":
        raise CheckpointError(
            f"asks for the activation {config.hidden_act!r}; only 'silu' is supported", where=path
        )
    for key in ("attention_bias", "mlp_bias"):
        if getattr(config, key):
            # TensorRT-LLM's converter does not read mlp_bias (0.16, models/llama/config.py).
            raise CheckpointError(f"sets {key}, which is not supported", where=path)
    return config
