"""The random checkpoints that engines are built from; each is made once."""

from __future__ import annotations

import json
import math
import struct
from itertools import islice, product
from pathlib import Path
from string import ascii_lowercase
from typing import Any, BinaryIO

import numpy as np

from scripts.bench.processes import run
from scripts.bench.workplace import Workplace
from scripts.checkpoint_files import replaced_directory, write_json

# Falcon-7B's dimensions (config.json of tiiuae/falcon-7b), but for its 32 layers.
HIDDEN_SIZE = 4544
HEADS = 71
VOCAB_SIZE = 65024
LAYERS = 4

_LARGE_CONFIG = {
    "hidden_size": HIDDEN_SIZE,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "torch_dtype": "bfloat16",
    "vocab_size": VOCAB_SIZE,
}
_POOL_ELEMENTS = 1 << 24


def small_checkpoint(workplace: Workplace) -> Path:
    """136 million parameters in float32; see scripts/make_benchmark_checkpoint.py."""
    path = workplace.directory / "checkpoints" / "falcon-136m"
    if not path.is_dir():
        print(f"making {path}", flush=True)
        script = workplace.root / "scripts" / "make_benchmark_checkpoint.py"
        run([workplace.python, script, path], workplace.root)
    return path


def large_checkpoint(workplace: Workplace) -> Path:
    """Four layers of Falcon-7B in bfloat16, 2.1 GiB, with a tokenizer of its full vocabulary.

    Its values repeat, which makes it quick to write and changes nothing of what a build costs.
    """
    path = workplace.directory / "checkpoints" / "falcon-7b-4-layers"
    if path.is_dir():
        return path
    small = small_checkpoint(workplace)
    print(f"making {path}", flush=True)
    with replaced_directory(path) as directory:
        config = json.loads((small / "config.json").read_text(encoding="utf-8"))
        write_json(directory / "config.json", config | _LARGE_CONFIG)
        tokenizer = json.loads((small / "tokenizer.json").read_text(encoding="utf-8"))
        _extend_vocabulary(tokenizer["model"], VOCAB_SIZE)
        (directory / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
        for name in ("tokenizer_config.json", "generation_config.json"):
            (directory / name).write_bytes((small / name).read_bytes())
        with (directory / "model.safetensors").open("wb") as file:
            _write_tensors(file)
    return path


def _extend_vocabulary(model: dict[str, Any], size: int) -> None:
    """Adds merges of a token and a letter until a BPE model has `size` tokens."""
    vocabulary, merges = model["vocab"], model["merges"]
    pairs = product([left + right for left, right in merges], ascii_lowercase)
    new = ([left, right] for left, right in pairs if left + right not in vocabulary)
    for left, right in islice(new, size - len(vocabulary)):
        vocabulary[left + right] = len(vocabulary)
        merges.append([left, right])


def _write_tensors(file: BinaryIO) -> None:
    """A safetensors file: the header's length, the header, the tensors' bytes."""
    shapes = _shapes()
    header, offset = {}, 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    normal = np.random.default_rng(0).standard_normal(_POOL_ELEMENTS, dtype=np.float32) / 64
    pool = (normal.view(np.uint32) >> 16).astype(np.uint16)  # bfloat16 is float32's upper half
    for shape in shapes.values():
        copies, rest = divmod(math.prod(shape), _POOL_ELEMENTS)
        for _ in range(copies):
            file.write(pool.data)
        file.write(pool[:rest].data)


def _shapes() -> dict[str, tuple[int, ...]]:
    hidden = HIDDEN_SIZE
    qkv = hidden + 2 * (hidden // HEADS)  # queries, one key head, one value head
    norm = {"weight": (hidden,), "bias": (hidden,)}
    block: dict[str, tuple[int, ...]] = {
        "self_attention.query_key_value.weight": (qkv, hidden),
        "self_attention.dense.weight": (hidden, hidden),
        "mlp.dense_h_to_4h.weight": (4 * hidden, hidden),
        "mlp.dense_4h_to_h.weight": (hidden, 4 * hidden),
        **{f"input_layernorm.{name}": shape for name, shape in norm.items()},
    }
    return {
        "transformer.word_embeddings.weight": (VOCAB_SIZE, hidden),
        **{
            f"transformer.h.{layer}.{name}": shape
            for layer in range(LAYERS)
            for name, shape in block.items()
        },
        **{f"transformer.ln_f.{name}": shape for name, shape in norm.items()},
    }
