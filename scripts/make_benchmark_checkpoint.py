# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = ["numpy==1.26.4", "safetensors==0.8.0", "tokenizers==0.23.3"]
# ///
"""Make a random checkpoint of 136 million parameters in the form of Falcon-7B, for benchmarks only.

It answers nonsense, but costs what a trained model of its shape costs: 12 layers of hidden size
1024 with 16 heads, a vocabulary of 8192, float32, 518 MiB. The same arguments give the same bytes.
Run it with `uv run --script scripts/make_benchmark_checkpoint.py DIRECTORY`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from string import ascii_lowercase

import numpy as np
from checkpoint_files import replaced_directory, write_json
from falcon_tokenizer import END_OF_TEXT_ID, SPECIAL_TOKENS, byte_level, save_tokenizer
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

SEED = 0
VOCAB_SIZE = 8192
HIDDEN_SIZE = 1024
LAYERS = 12
HEADS = 16
MAX_POSITIONS = 2048
SPACE = "Ġ"  # a space among the letters of a byte-level vocabulary

# The keys of the config.json of tiiuae/falcon-7b.
CONFIG = {
    "alibi": False,
    "apply_residual_connection_post_layernorm": False,
    "architectures": ["FalconForCausalLM"],
    "attention_dropout": 0.0,
    "bias": False,
    "bos_token_id": END_OF_TEXT_ID,
    "eos_token_id": END_OF_TEXT_ID,
    "hidden_dropout": 0.0,
    "hidden_size": HIDDEN_SIZE,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "max_position_embeddings": MAX_POSITIONS,
    "model_type": "falcon",
    "multi_query": True,
    "new_decoder_architecture": False,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "parallel_attn": True,
    "torch_dtype": "float32",
    "use_cache": True,
    "vocab_size": VOCAB_SIZE,
}


def main() -> None:
    """Make the checkpoint in the directory given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path, help="replaced if it exists")
    output = parser.parse_args().directory

    weights = dict(random_weights(np.random.default_rng(SEED)))
    print(f"{sum(weight.size for weight in weights.values()):,} parameters", flush=True)
    with replaced_directory(output) as directory:
        save_tokenizer(letter_tokenizer(), directory, MAX_POSITIONS)
        write_json(directory / "config.json", CONFIG)
        end = {"bos_token_id": END_OF_TEXT_ID, "eos_token_id": END_OF_TEXT_ID}
        write_json(directory / "generation_config.json", end)
        save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    print(f"wrote {output}")


def random_weights(random: np.random.Generator) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Every tensor by its name in the published checkpoints; the output layer is the embedding."""
    embedding = matrix(random, VOCAB_SIZE, HIDDEN_SIZE)
    # Special tokens never win, so that every request runs to the length it asks for.
    embedding[: len(SPECIAL_TOKENS)] *= 0.1
    yield "transformer.word_embeddings.weight", embedding
    head_size = HIDDEN_SIZE // HEADS
    for layer in range(LAYERS):
        prefix = f"transformer.h.{layer}"
        attention = f"{prefix}.self_attention"
        fused_rows = HIDDEN_SIZE + 2 * head_size  # queries, one key head, one value head
        yield f"{attention}.query_key_value.weight", matrix(random, fused_rows, HIDDEN_SIZE)
        yield f"{attention}.dense.weight", matrix(random, HIDDEN_SIZE, HIDDEN_SIZE)
        yield f"{prefix}.mlp.dense_h_to_4h.weight", matrix(random, 4 * HIDDEN_SIZE, HIDDEN_SIZE)
        yield f"{prefix}.mlp.dense_4h_to_h.weight", matrix(random, HIDDEN_SIZE, 4 * HIDDEN_SIZE)
        yield from layer_norm(f"{prefix}.input_layernorm")
    yield from layer_norm("transformer.ln_f")


def matrix(random: np.random.Generator, rows: int, columns: int) -> NDArray[np.float32]:
    """Normal values [rows, columns] that keep the size of what they multiply."""
    values = random.standard_normal((rows, columns), dtype=np.float32)
    return values / np.float32(columns**0.5)


def layer_norm(name: str) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """A layer norm's weight and bias [HIDDEN_SIZE] as they are before any training."""
    yield f"{name}.weight", np.ones(HIDDEN_SIZE, np.float32)
    yield f"{name}.bias", np.zeros(HIDDEN_SIZE, np.float32)


def letter_tokenizer() -> Tokenizer:
    """Byte-level BPE whose merges are pairs of letters, then triples until the vocabulary is full.

    So every id of the model has a text of its own, and any text has tokens.
    """
    pairs = list(product(SPACE + ascii_lowercase, ascii_lowercase))
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


if __name__ == "__main__":
    main()
