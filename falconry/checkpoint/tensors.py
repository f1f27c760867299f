"""A checkpoint's tensors, and where they are in safetensors files.

Names and shapes are those of transformers 5.23, models/falcon/modeling_falcon.py and
models/llama/modeling_llama.py. A safetensors file is a little-endian u64 header length, the JSON
header, then the data (https://github.com/huggingface/safetensors, README "Format", release 0.8).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from falconry.checkpoint.architecture import Architecture, FalconArchitecture, LlamaArchitecture
from falconry.checkpoint.files import FETCH_AGAIN, WeightFiles
from falconry.documents import DocumentError, is_integer, parse_json
from falconry.errors import CheckpointError

OUTPUT_PROJECTION = "lm_head.weight"

Shape = tuple[int, ...]
# Bytes an element, of the dtypes that Falcon checkpoints are published in.
DTYPE_SIZES: Mapping[str, int] = {"F32": 4, "BF16": 2, "F16": 2}

_LENGTH_BYTES = 8
# The format's own limit is 100 MB (safetensors 0.8, MAX_HEADER_SIZE), of which Python would make
# gigabytes. Falcon-180B's headers have below 20 kB each.
_MAX_HEADER_BYTES = 16 * 1024 * 1024
_MOST_BYTES = (1 << 64) - 1  # of a tensor, as the library counts
_METADATA = "__metadata__"
_ONE_REVISION = "fetch the index and its shards from one revision"


@dataclass(frozen=True, slots=True)
class TensorNames:
    """What an architecture's tensors are called.

    Attributes:
        final_norm: prefix of the last norm's tensors.
        layers: prefix of all layers.
    """

    embedding: str
    final_norm: str
    layers: str

    def layer(self, number: int) -> str:
        """What the names of a layer's tensors start with."""
        return f"{self.layers}.{number}"


_FALCON_NAMES = TensorNames(
    embedding="transformer.word_embeddings.weight",
    final_norm="transformer.ln_f",
    layers="transformer.h",
)
_LLAMA_NAMES = TensorNames(
    embedding="model.embed_tokens.weight",
    final_norm="model.norm",
    layers="model.layers",
)
_EMBEDDINGS = (_FALCON_NAMES.embedding, _LLAMA_NAMES.embedding)


def tensor_names(architecture: Architecture) -> TensorNames:
    """The names of an architecture's tensors."""
    return _FALCON_NAMES if isinstance(architecture, FalconArchitecture) else _LLAMA_NAMES


def falcon_norms(architecture: FalconArchitecture) -> tuple[str, str | None]:
    """Names of a Falcon layer's attention norm and MLP norm, if separate."""
    if not architecture.separate_mlp_norm:
        return "input_layernorm", None
    if architecture.new_decoder_architecture:
        return "ln_attn", "ln_mlp"
    return "input_layernorm", "post_attention_layernorm"


def expected_tensors(architecture: Architecture) -> dict[str, Shape]:
    """Name and shape of every tensor that the architecture needs."""
    hidden, names = architecture.hidden_size, tensor_names(architecture)
    norm_has_bias = isinstance(architecture, FalconArchitecture)
    expected: dict[str, Shape] = {names.embedding: (architecture.vocab_size, hidden)}
    for number in range(architecture.num_layers):
        layer = names.layer(number)
        if isinstance(architecture, FalconArchitecture):
            expected.update(_falcon_layer(architecture, layer))
        else:
            expected.update(_llama_layer(architecture, layer))
    expected.update(_norm(names.final_norm, hidden, norm_has_bias))
    if not architecture.tied_embeddings:
        expected[OUTPUT_PROJECTION] = (architecture.vocab_size, hidden)
    return expected


def check_tensors(
    architecture: Architecture, located: Mapping[str, TensorLocation], directory: Path
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


def _falcon_layer(architecture: FalconArchitecture, prefix: str) -> dict[str, Shape]:
    hidden, ffn = architecture.hidden_size, architecture.ffn_hidden_size
    linears = {
        "self_attention.query_key_value": (architecture.qkv_size, hidden),
        "self_attention.dense": (hidden, hidden),
        "mlp.dense_h_to_4h": (ffn, hidden),
        "mlp.dense_4h_to_h": (hidden, ffn),
    }
    layer: dict[str, Shape] = {}
    for name, shape in linears.items():
        layer[f"{prefix}.{name}.weight"] = shape
        if architecture.bias:
            layer[f"{prefix}.{name}.bias"] = shape[:1]
    for norm in falcon_norms(architecture):
        if norm:
            layer.update(_norm(f"{prefix}.{norm}", hidden, has_bias=True))
    return layer


def _llama_layer(architecture: LlamaArchitecture, prefix: str) -> dict[str, Shape]:
    hidden, ffn = architecture.hidden_size, architecture.ffn_hidden_size
    queries, keys = architecture.attention_size, architecture.num_kv_heads * architecture.head_size
    linears = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (ffn, hidden),
        "mlp.up_proj": (ffn, hidden),
        "mlp.down_proj": (hidden, ffn),
    }
    layer: dict[str, Shape] = {f"{prefix}.{name}.weight": shape for name, shape in linears.items()}
    for norm in ("input_layernorm", "post_attention_layernorm"):
        layer.update(_norm(f"{prefix}.{norm}", hidden, has_bias=False))
    return layer


def _norm(prefix: str, hidden: int, has_bias: bool) -> dict[str, Shape]:
    weight: dict[str, Shape] = {f"{prefix}.weight": (hidden,)}
    return weight | {f"{prefix}.bias": (hidden,)} if has_bias else weight


def _wrong_shape(tensor: TensorLocation, shape: Shape) -> CheckpointError:
    if tensor.name in (*_EMBEDDINGS, OUTPUT_PROJECTION) and tensor.shape[1:] == shape[1:]:
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

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + self.num_elements * DTYPE_SIZES[self.dtype]


def locate_tensors(weights: WeightFiles) -> dict[str, TensorLocation]:
    """Every tensor of the checkpoint by name, also those that an index does not name.

    transformers takes each tensor of each shard, and of the index only the shards' names (5.23,
    modeling_utils.py, _load_pretrained_model).

    Raises:
        CheckpointError: a header is corrupt, a file is truncated, a tensor is not in its shard,
            is in two of them, or has a dtype that is not a plain float.
    """
    by_file = {path: _read_file(path) for path in weights.files}
    located: dict[str, TensorLocation] = {}
    for path, tensors in by_file.items():
        if twice := next((name for name in tensors if name in located), None):
            raise CheckpointError(
                f"holds {twice}, which {located[twice].path.name} holds as well",
                where=path,
                remedy=_ONE_REVISION,
            )
        located.update(tensors)
    for name, path in (weights.shard_of or {}).items():
        if name not in by_file[path]:
            raise CheckpointError(
                f"says that {path.name} holds {name}, which it does not",
                where=weights.index,
                remedy=_ONE_REVISION,
            )
    return located


def _read_file(path: Path) -> dict[str, TensorLocation]:
    """Every tensor of a file, which must be as the safetensors library demands it.

    Tensors lie one behind the other without holes or overlaps, and they fill the file
    (safetensors 0.8, src/tensor.rs: Metadata::validate, SafeTensors::read_metadata).
    """
    header, data_start, file_size = _read_header(path)
    metadata = header.pop(_METADATA, None)
    texts = metadata.values() if isinstance(metadata, dict) else []
    if not isinstance(metadata, dict | None) or not all(isinstance(each, str) for each in texts):
        raise _corrupt(path, f"{_METADATA} holds other things than texts")
    located = [_locate(path, name, entry, data_start) for name, entry in header.items()]
    end = data_start
    for tensor in sorted(located, key=lambda each: (each.offset, each.end)):
        if tensor.offset != end:
            how = "overlaps with" if tensor.offset < end else "leaves a hole before"
            raise _corrupt(path, f"the data of another tensor {how} {tensor.name}")
        end = tensor.end
    if end > file_size:
        raise CheckpointError(
            f"is truncated: its header says {end:,} bytes or more, the file has {file_size:,}",
            where=path,
            remedy=FETCH_AGAIN,
        )
    if end < file_size:
        raise _corrupt(path, f"{file_size - end:,} bytes at its end belong to no tensor")
    return {tensor.name: tensor for tensor in located}


def _read_header(path: Path) -> tuple[dict[str, Any], int, int]:
    """The header, the data's offset and the file's size."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if size < _LENGTH_BYTES or length > size - _LENGTH_BYTES:
                raise _corrupt(path, "the header is longer than the file")
            if length > _MAX_HEADER_BYTES:
                raise _corrupt(path, f"the header has more than {_MAX_HEADER_BYTES:,} bytes")
            header = parse_json(file.read(length))
    except OSError as error:
        raise CheckpointError(f"cannot be read ({error.strerror})", where=path) from error
    except DocumentError as error:
        raise _corrupt(path, f"the header {error}") from error
    if not isinstance(header, dict):
        raise _corrupt(path, "the header is not a JSON object")
    return header, _LENGTH_BYTES + length, size


def _locate(path: Path, name: str, entry: Any, data_start: int) -> TensorLocation:
    """Where a tensor is, by its entry in the header."""
    fields = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = (fields.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or not _are_sizes(shape) or not _are_sizes(offsets):
        raise _corrupt(path, f"the entry of {name} is none of a tensor")
    if dtype not in DTYPE_SIZES:
        raise CheckpointError(
            f"stores {name} as {dtype}; only {', '.join(DTYPE_SIZES)} are read",
            where=path,
            remedy="use the unquantised checkpoint",
        )
    size = DTYPE_SIZES[dtype]
    for dimension in shape:
        size *= dimension
        if size > _MOST_BYTES:  # the product of many such numbers would take long
            break
    if len(offsets) != 2 or offsets[1] - offsets[0] != size:
        raise _corrupt(path, f"{name} has another size than its shape says")
    return TensorLocation(name, path, data_start + offsets[0], dtype, tuple(shape))


def _are_sizes(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(is_integer(each) and each >= 0 for each in values)


def _corrupt(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"has a corrupt safetensors header or is not a safetensors file ({reason})",
        where=path,
        remedy=FETCH_AGAIN,
    )
