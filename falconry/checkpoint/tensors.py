"""A Falcon checkpoint's tensors, and where they are in safetensors files.

Names and shapes are those of transformers 5.23, models/falcon/modeling_falcon.py
(FalconForCausalLM and below). A safetensors file is a little-endian u64 header length, the JSON
header, then the data (https://github.com/huggingface/safetensors, README "Format", release 0.8).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from falconry.checkpoint.config import FalconArchitecture
from falconry.checkpoint.files import WeightFiles
from falconry.errors import CheckpointError

EMBEDDING = "transformer.word_embeddings.weight"
FINAL_NORM = "transformer.ln_f"
OUTPUT_PROJECTION = "lm_head.weight"

Shape = tuple[int, ...]
# Bytes an element, of the dtypes that Falcon checkpoints are published in.
DTYPE_SIZES: Mapping[str, int] = {"F32": 4, "BF16": 2, "F16": 2}

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit: safetensors 0.8, MAX_HEADER_SIZE
_FETCH_AGAIN = "fetch the file again"


def block_prefix(layer: int) -> str:
    """What the names of a decoder block's tensors start with."""
    return f"transformer.h.{layer}"


def norm_names(architecture: FalconArchitecture) -> tuple[str, str | None]:
    """Names of a block's attention norm and MLP norm, if separate."""
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
            f"holds {_some(superfluous)}, which config.json does not call for",
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


@dataclass(frozen=True, slots=True)
class TensorLocation:
    """Where a tensor is.

    Attributes:
        offset: first byte, counted from the start of the file.
        dtype: element type as safetensors spells it ("F32", "BF16" or "F16").
        shape: its dimensions; the elements are contiguous in row-major order.
    """

    name: str
    path: Path
    offset: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def num_elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def locate_tensors(weights: WeightFiles) -> dict[str, TensorLocation]:
    """Every tensor of the checkpoint by name.

    Raises:
        CheckpointError: a header is corrupt, a file is truncated, a tensor is not in its shard
            or has a dtype that is not a plain float.
    """
    by_file = {path: _read_file(path) for path in weights.files}
    if weights.shard_of is None:
        return dict(by_file[weights.files[0]])
    absent = [name for name, path in weights.shard_of.items() if name not in by_file[path]]
    if absent:
        raise CheckpointError(
            f"says that {weights.shard_of[absent[0]].name} holds {absent[0]}, which it does not",
            where=weights.index,
            remedy="fetch the index and its shards from one revision",
        )
    return {name: by_file[path][name] for name, path in weights.shard_of.items()}


def _read_file(path: Path) -> dict[str, TensorLocation]:
    header, data_start, file_size = _read_header(path)
    located: dict[str, TensorLocation] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        location, end = _locate(path, name, entry, data_start)
        if end > file_size:
            raise CheckpointError(
                f"is truncated: its header says {end:,} bytes or more, the file has {file_size:,}",
                where=path,
                remedy=_FETCH_AGAIN,
            )
        located[name] = location
    return located


def _read_header(path: Path) -> tuple[dict[str, Any], int, int]:
    """The header, the data's offset and the file's size."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if size < _LENGTH_BYTES or length > min(size - _LENGTH_BYTES, _MAX_HEADER_BYTES):
                raise _corrupt(path)
            header = json.loads(file.read(length))
    except OSError as error:
        raise CheckpointError(f"cannot be read ({error.strerror})", where=path) from error
    except ValueError as error:
        raise _corrupt(path) from error
    if not isinstance(header, dict):
        raise _corrupt(path)
    return header, _LENGTH_BYTES + length, size


def _locate(path: Path, name: str, entry: Any, data_start: int) -> tuple[TensorLocation, int]:
    """One header entry, and the file size that it needs."""
    try:
        dtype, shape = entry["dtype"], tuple(entry["shape"])
        begin, end = entry["data_offsets"]
        elements = math.prod(shape)
    except (KeyError, TypeError, ValueError) as error:
        raise _corrupt(path) from error
    if dtype not in DTYPE_SIZES:
        raise CheckpointError(
            f"stores {name} as {dtype}; only {', '.join(DTYPE_SIZES)} are read",
            where=path,
            remedy="use the unquantised checkpoint",
        )
    if begin < 0 or min(shape, default=1) < 0 or end - begin != elements * DTYPE_SIZES[dtype]:
        raise _corrupt(path)
    return TensorLocation(name, path, data_start + begin, dtype, shape), data_start + end


def _corrupt(path: Path) -> CheckpointError:
    return CheckpointError(
        "has a corrupt safetensors header or is no safetensors file",
        where=path,
        remedy=_FETCH_AGAIN,
    )
