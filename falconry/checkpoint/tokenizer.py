"""The tokenizer of a checkpoint, loaded by transformers without running any code of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from falconry.checkpoint.files import find_tokenizer
from falconry.checkpoint.transformers_library import import_transformers
from falconry.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class TokenizerFacts:
    """What an engine needs to know of a tokenizer.

    Attributes:
        path: tokenizer.json.
        vocab_size: one more than the largest token id.
    """

    path: Path
    vocab_size: int


def read_tokenizer(directory: Path, vocab_size: int) -> TokenizerFacts:
    """Reads the tokenizer and holds it against the model's vocabulary.

    Args:
        directory: the checkpoint.
        vocab_size: rows of the model's embedding.

    Raises:
        CheckpointError: the tokenizer is absent or damaged, or has tokens the model has no
            embedding for.
    """
    tokenizer = load_tokenizer(directory)
    tokens = max(tokenizer.get_vocab().values(), default=-1) + 1
    path = find_tokenizer(directory)
    if tokens > vocab_size:
        raise CheckpointError(
            f"has token ids up to {tokens - 1}, but the model's vocab_size is {vocab_size}",
            where=path,
            remedy="use the tokenizer the model was trained with, or resize the embedding",
        )
    return TokenizerFacts(path, tokens)


def load_tokenizer(directory: Path) -> PreTrainedTokenizerFast:
    """The checkpoint's fast tokenizer.

    Raises:
        CheckpointError: it is absent or damaged.
    """
    path = find_tokenizer(directory)
    fast_tokenizer_class = import_transformers().PreTrainedTokenizerFast
    try:
        tokenizer: PreTrainedTokenizerFast = fast_tokenizer_class.from_pretrained(
            directory, local_files_only=True
        )
    # The tokenizers library raises bare Exception for a file it cannot read.
    except Exception as error:
        raise CheckpointError(
            f"is not accepted by transformers ({' '.join(str(error).split())})",
            where=path,
            remedy="fetch the tokenizer's files again",
        ) from error
    return tokenizer
