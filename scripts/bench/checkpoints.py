"""The random checkpoints that engines are built from; each is made once."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from itertools import islice, product
from pathlib import Path
from string import ascii_lowercase
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from falconry.checkpoint.config import read_configuration
from falconry.checkpoint.tensors import expected_tensors
from scripts.bench.prompts import VOCAB_SIZE
from scripts.bench.workplace import Workplace
from scripts.falcon_checkpoint import (
    END_OF_TEXT_ID,
    SPECIAL_TOKENS,
    byte_level,
    replaced_directory,
    save_tokenizer,
    write_json,
)

# The keys of the config.json of tiiuae/falcon-7b: 12 layers of hidden size 1024, 518 MiB.
_SMALL_CONFIG: dict[str, Any] = {
    "alibi": False,
    "apply_residual_connection_post_layernorm": False,
    "architectures": ["FalconForCausalLM"],
    "attention_dropout": 0.0,
    "bias": False,
    "bos_token_id": END_OF_TEXT_ID,
    "eos_token_id": END_OF_TEXT_ID,
    "hidden_dropout": 0.0,
    "hidden_size": 1024,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "max_position_embeddings": 2048,
    "model_type": "falcon",
    "multi_query": True,
    "new_decoder_architecture": False,
    "num_attention_heads": 16,
    "num_hidden_layers": 12,
    "parallel_attn": True,
    "torch_dtype": "float32",
    "use_cache": True,
    "vocab_size": VOCAB_SIZE,
}
# Falcon-7B's own dimensions, but for its 32 layers.
_LARGE_CONFIG = _SMALL_CONFIG | {
    "hidden_size": 4544,
    "num_attention_heads": 71,
    "num_hidden_layers": 4,
    "torch_dtype": "bfloat16",
    "vocab_size": 65024,
}
# A block of Falcon3-1B, six times of its 18, with the small checkpoint's vocabulary.
_FALCON3_CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "bos_token_id": END_OF_TEXT_ID,
    "eos_token_id": END_OF_TEXT_ID,
    "head_dim": 256,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "num_attention_heads": 8,
    "num_hidden_layers": 6,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000042,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": VOCAB_SIZE,
}
_SPACE = "Ġ"  # a space among the letters of a byte-level vocabulary
_POOL_ELEMENTS = 1 << 24

Shapes = dict[str, tuple[int, ...]]


def small_checkpoint(workplace: Workplace) -> Path:
    """136 million random float32 parameters in the form of Falcon-7B.

    It answers nonsense, but costs what a trained model of its shape costs. Its bytes are always the
    same.
    """
    path = workplace.directory / "checkpoints" / "falcon-136m"
    if path.is_dir():
        return path
    print(f"making {path}", flush=True)
    with replaced_directory(path) as directory:
        save_tokenizer(_letter_tokenizer(), directory, _SMALL_CONFIG["max_position_embeddings"])
        write_json(directory / "config.json", _SMALL_CONFIG)
        end = {"bos_token_id": END_OF_TEXT_ID, "eos_token_id": END_OF_TEXT_ID}
        write_json(directory / "generation_config.json", end)
        weights = dict(_random_weights(np.random.default_rng(0)))
        save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return path


def large_checkpoint(workplace: Workplace) -> Path:
    """Four layers of Falcon-7B in bfloat16, 2.1 GiB, with its full vocabulary.

    Its values repeat, which makes it quick to write and changes nothing of what a build costs.
    """
    path = workplace.directory / "checkpoints" / "falcon-7b-4-layers"
    if path.is_dir():
        return path
    small = small_checkpoint(workplace)
    print(f"making {path}", flush=True)
    with replaced_directory(path) as directory:
        write_json(directory / "config.json", _LARGE_CONFIG)
        tokenizer = json.loads((small / "tokenizer.json").read_text(encoding="utf-8"))
        _extend_vocabulary(tokenizer["model"], _LARGE_CONFIG["vocab_size"])
        (directory / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
        for name in ("tokenizer_config.json", "generation_config.json"):
            (directory / name).write_bytes((small / name).read_bytes())
        with (directory / "model.safetensors").open("wb") as file:
            _write_tensors(file, _shapes(_LARGE_CONFIG))
    return path


def falcon3_checkpoint(workplace: Workplace) -> Path:
    """Six layers of Falcon3-1B in bfloat16; its values repeat."""
    path = workplace.directory / "checkpoints" / "falcon3-1b-6-layers"
    if path.is_dir():
        return path
    small = small_checkpoint(workplace)
    print(f"making {path}", flush=True)
    with replaced_directory(path) as directory:
        write_json(directory / "config.json", _FALCON3_CONFIG)
        for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
            (directory / name).write_bytes((small / name).read_bytes())
        architecture = read_configuration(directory).architecture
        with (directory / "model.safetensors").open("wb") as file:
            _write_tensors(file, expected_tensors(architecture))
    return path


def _extend_vocabulary(model: dict[str, Any], size: int) -> None:
    """Adds merges of a token and a letter until a BPE model has `size` tokens."""
    vocabulary, merges = model["vocab"], model["merges"]
    pairs = product([left + right for left, right in merges], ascii_lowercase)
    new = ([left, right] for left, right in pairs if left + right not in vocabulary)
    for left, right in islice(new, size - len(vocabulary)):
        vocabulary[left + right] = len(vocabulary)
        merges.append([left, right])


def _write_tensors(file: BinaryIO, shapes: Shapes) -> None:
    """A safetensors file: the header's length, the header, the tensors' bytes."""
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
    for number, shape in enumerate(shapes.values()):
        values = np.roll(pool, number)  # OpenVINO writes equal tensors once
        copies, rest = divmod(math.prod(shape), _POOL_ELEMENTS)
        for _ in range(copies):
            file.write(values.data)
        file.write(values[:rest].data)


def _shapes(config: Mapping[str, Any]) -> Shapes:
    """Every tensor's shape by its published name; the output layer is the embedding."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    qkv = hidden + 2 * (hidden // heads)  # queries, one key head, one value head
    norm = {"weight": (hidden,), "bias": (hidden,)}
    block: Shapes = {
        "self_attention.query_key_value.weight": (qkv, hidden),
        "self_attention.dense.weight": (hidden, hidden),
        "mlp.dense_h_to_4h.weight": (4 * hidden, hidden),
        "mlp.dense_4h_to_h.weight": (hidden, 4 * hidden),
        **{f"input_layernorm.{name}": shape for name, shape in norm.items()},
    }
    return {
        "transformer.word_embeddings.weight": (config["vocab_size"], hidden),
        **{
            f"transformer.h.{layer}.{name}": shape
            for layer in range(config["num_hidden_layers"])
            for name, shape in block.items()
        },
        **{f"transformer.ln_f.{name}": shape for name, shape in norm.items()},
    }


def _random_weights(random: np.random.Generator) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Normal values that keep the size of what they multiply; norms as before any training."""
    for name, shape in _shapes(_SMALL_CONFIG).items():
        if len(shape) == 1:
            yield name, np.full(shape, name.endswith("weight"), np.float32)
            continue
        values = random.standard_normal(shape, dtype=np.float32) / np.float32(shape[1] ** 0.5)
        if "word_embeddings" in name:
            # Special tokens never win, so that every request runs to the length it requests.
            values[: len(SPECIAL_TOKENS)] *= 0.1
        yield name, values


def _letter_tokenizer() -> Tokenizer:
    """Byte-level BPE; its merges are pairs of letters, then triples.

    So every id of the model has a text of its own, and any text has tokens.
    """
    pairs = list(product(_SPACE + ascii_lowercase, ascii_lowercase))
    triples = (
        (first + second, third) for (first, second), third in product(pairs, ascii_lowercase)
    )
    singles = [*SPECIAL_TOKENS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges = [*pairs, *islice(triples, VOCAB_SIZE - len(singles) - len(pairs))]
    tokens = [*singles, *(left + right for left, right in merges)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = byte_level(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer
