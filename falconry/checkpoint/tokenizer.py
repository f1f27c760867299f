"""The tokenizer of a checkpoint, as far as it must fit the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from falconry.checkpoint.files import find_tokenizer
from falconry.errors import CheckpointError


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
    from tokenizers import Tokenizer

    path = find_tokenizer(directory)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    # The tokenizers library raises bare Exception for a file it cannot read.
    except Exception as error:
        raise CheckpointError(
            f"is not accepted by transformers ({' '.join(str(error).split())})",
            where=path,
            remedy="fetch the tokenizer's files again",
        ) from error
    facts = TokenizerFacts(path, max(tokenizer.get_vocab().values(), default=-1) + 1)
    require_embeddings(facts, vocab_size)
    return facts


def require_embeddings(tokenizer: TokenizerFacts, vocab_size: int) -> None:
    """Refuses a tokenizer with ids that the model has no embedding for.

    Raises:
        CheckpointError: it has some.
    """
    if tokenizer.vocab_size > vocab_size:
        raise CheckpointError(
            f"has token ids up to {tokenizer.vocab_size - 1}, but the model's vocab_size is "
            f"{vocab_size}",
            where=tokenizer.path,
            remedy="use the tokenizer the model was trained with, or resize the embedding",
        )
