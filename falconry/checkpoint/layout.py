"""The tensors a Falcon checkpoint holds, by the names and shapes transformers gives them.

Source: transformers 5.23, models/falcon/modeling_falcon.py (FalconForCausalLM and below).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from falconry.checkpoint.architecture import FalconArchitecture
from falconry.checkpoint.tensors import TensorLocation
from falconry.errors import CheckpointError

EMBEDDING = "transformer.word_embeddings.weight"
FINAL_NORM = "transformer.ln_f"
OUTPUT_PROJECTION = "lm_head.weight"

Shape = tuple[int, ...]


def block_prefix(layer: int) -> str:
    """What the names of a decoder block's tensors start with."""
    return f"transformer.h.{layer}"


def norm_names(architecture: FalconArchitecture) -> tuple[str, str | None]:
    """Names of a block's attention norm and of its MLP norm, None when they share one."""
    if not architecture.separate_mlp_norm:
        return "input_layernorm", None
    if architecture.new_decoder_architecture:
        return "ln_attn", "ln_mlp"
    return "input_layernorm", "post_attention_layernorm"


def expected_tensors(architecture: FalconArchitecture) -> dict[str, Shape]:
    """Name and shape of every tensor that the architecture needs."""
    hidden = architecture.hidden_size
    expected: dict[str, Shape] = {EMBEDDING: (architecture.vocab_size, hidden)}
    for layer in range(architecture.num_layers):
        expected.update(_block(architecture, block_prefix(layer)))
    expected.update(_norm(FINAL_NORM, hidden))
    if not architecture.tied_embeddings:
        expected[OUTPUT_PROJECTION] = (architecture.vocab_size, hidden)
    return expected


def check_tensors(
    architecture: FalconArchitecture, located: Mapping[str, TensorLocation], directory: Path
) -> None:
    """Compares what the checkpoint holds with what its configuration calls for.

    Raises:
        CheckpointError: a tensor is missing, superfluous or of another shape.
    """
    expected = expected_tensors(architecture)
    if missing := [name for name in expected if name not in located]:
        raise CheckpointError(
            f"lacks {_some(missing)}, which config.json calls for",
            where=directory,
            remedy="fetch the weights and config.json from one revision",
        )
    # Old checkpoints carry the rotary frequencies, which the configuration already decides.
    superfluous = [name for name in located if name not in expected and "inv_freq" not in name]
    if superfluous:
        raise CheckpointError(
            f"holds {_some(superfluous)}, for which config.json has no place",
            where=directory,
            remedy="fetch the weights and config.json from one revision",
        )
    for name, shape in expected.items():
        if located[name].shape != shape:
            raise _wrong_shape(located[name], shape)


def _block(architecture: FalconArchitecture, prefix: str) -> dict[str, Shape]:
    hidden, ffn = architecture.hidden_size, architecture.ffn_hidden_size
    linears = {
        "self_attention.query_key_value": (architecture.qkv_size, hidden),
        "self_attention.dense": (hidden, hidden),
        "mlp.dense_h_to_4h": (ffn, hidden),
        "mlp.dense_4h_to_h": (hidden, ffn),
    }
    block: dict[str, Shape] = {}
    for name, shape in linears.items():
        block[f"{prefix}.{name}.weight"] = shape
        if architecture.bias:
            block[f"{prefix}.{name}.bias"] = shape[:1]
    for norm in norm_names(architecture):
        if norm:
            block.update(_norm(f"{prefix}.{norm}", hidden))
    return block


def _norm(prefix: str, hidden: int) -> dict[str, Shape]:
    return {f"{prefix}.weight": (hidden,), f"{prefix}.bias": (hidden,)}


def _wrong_shape(tensor: TensorLocation, shape: Shape) -> CheckpointError:
    if tensor.name in (EMBEDDING, OUTPUT_PROJECTION) and tensor.shape[1:] == shape[1:]:
        return CheckpointError(
            f"{tensor.name} has {tensor.shape[0]} rows, but config.json's vocab_size is {shape[0]}",
            where=tensor.path,
            remedy="set vocab_size to the number of rows, or resize the embedding and save again",
        )
    return CheckpointError(
        f"{tensor.name} has the shape {tensor.shape}, but config.json calls for {shape}",
        where=tensor.path,
        remedy="fetch the weights and config.json from one revision",
    )


def _some(names: list[str]) -> str:
    others = f" and {len(names) - 1} more tensors" if len(names) > 1 else ""
    return f"the tensor {names[0]}{others}"
