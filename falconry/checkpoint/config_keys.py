"""What the configurations of all families share: their keys' types, RoPE, and the checks of sizes.

transformers takes 1.25 s to import, and a checkpoint is read in 0.03 s without it. So the keys and
defaults of its configuration classes are repeated in falcon_config.py and llama_config.py; tests
compare them with the classes on the same configurations.
Source: transformers 5.23, modeling_rope_utils.py
(RotaryEmbeddingConfigMixin.convert_rope_params_to_dict) for RoPE.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    ValidationError,
    model_validator,
)

from falconry.data_files import validation_problem
from falconry.errors import CheckpointError

_ROPE_THETA = 10_000.0
# Far above any Falcon (Falcon-180B has 80 blocks), and low enough to count up to and to multiply.
_MOST = {"num_hidden_layers": 1_000, "max_position_embeddings": 1 << 40}
_MOST_ELSE = 1 << 24


class Keys(BaseModel):
    """JSON's own types only; keys without effect here are left out."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class RopeParameters(Keys):
    """How rotary embeddings turn; `type` is the older name of `rope_type`."""

    rope_theta: PositiveFloat
    rope_type: str = Field(default="default", validation_alias=AliasChoices("rope_type", "type"))


class RotaryKeys(Keys):
    """A configuration with both spellings of RoPE, read into `rope_parameters`."""

    rope_parameters: RopeParameters

    @model_validator(mode="before")
    @classmethod
    def _with_rope_parameters(cls, values: dict[str, Any]) -> dict[str, Any]:
        rope = values.get("rope_scaling") or values.get("rope_parameters") or {}
        if isinstance(rope, dict):
            rope = {"rope_theta": values.get("rope_theta", _ROPE_THETA), **rope}
        return {**values, "rope_parameters": rope}


_Kind = TypeVar("_Kind", bound=Keys)


def validate_keys(values: dict[str, Any], kind: type[_Kind], path: Path) -> _Kind:
    """The values as one family's configuration.

    Raises:
        CheckpointError: transformers would not take a value either.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise CheckpointError(
            f"is not accepted by transformers ({validation_problem(error)})",
            where=path,
            remedy="correct the value",
        ) from error


def check_positive(config: Keys, keys: Iterable[str], path: Path) -> None:
    """Refuses sizes that are not positive, or so large that no model has them."""
    for key in keys:
        value, most = getattr(config, key), _MOST.get(key, _MOST_ELSE)
        if not value > 0:
            raise CheckpointError(f"{key} is not a positive number", where=path)
        if value > most:
            raise CheckpointError(f"{key} is above {most}, more than any Falcon has", where=path)


def check_heads(
    heads: int, kv_heads: int, kv_key: str, hidden_size: int, head_size: int, path: Path
) -> None:
    """Refuses heads that do not share the hidden size or the key/value heads out evenly."""
    if hidden_size % heads:
        raise CheckpointError(
            f"hidden_size {hidden_size} is not a multiple of num_attention_heads {heads}",
            where=path,
        )
    if heads % kv_heads:
        raise CheckpointError(
            f"num_attention_heads {heads} is not a multiple of {kv_key} {kv_heads}", where=path
        )
    if head_size % 2:
        raise CheckpointError(
            f"the head size {head_size} is odd, which transformers refuses", where=path
        )


def check_rope(rope: RopeParameters, path: Path) -> None:
    """Refuses rotary embeddings other than the plain ones."""
    if rope.rope_type != "default":
        raise CheckpointError(
            f"asks for RoPE scaling ({rope.rope_type!r}), which is not supported", where=path
        )
