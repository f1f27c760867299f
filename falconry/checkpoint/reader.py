"""A checkpoint's configuration, tensors and tokenizer, checked together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from falconry.checkpoint.architecture import Architecture
from falconry.checkpoint.config import read_configuration
from falconry.checkpoint.files import find_weights
from falconry.checkpoint.tensors import (
    OUTPUT_PROJECTION,
    TensorLocation,
    check_tensors,
    expected_tensors,
    locate_tensors,
)
from falconry.checkpoint.tokenizer import TokenizerFacts, read_tokenizer


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose parts fit together.

    Attributes:
        end_ids: tokens that end an answer, the first one first.
        tensors: every tensor the architecture needs, by name.
    """

    directory: Path
    architecture: Architecture
    end_ids: tuple[int, ...]
    pad_id: int
    tensors: Mapping[str, TensorLocation]
    tokenizer: TokenizerFacts

    @property
    def num_parameters(self) -> int:
        """Elements of all tensors; a tied output projection counts once."""
        return sum(tensor.num_elements for tensor in self.tensors.values())

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The element types that occur, as safetensors spells them, sorted."""
        return tuple(sorted({tensor.dtype for tensor in self.tensors.values()}))


def read_checkpoint(directory: Path) -> Checkpoint:
    """Reads everything about a checkpoint but the weights themselves.

    Raises:
        CheckpointError: the directory is no checkpoint that can be built, or its parts are damaged
            or do not fit together.
    """
    weights = find_weights(directory)
    configuration = read_configuration(directory)
    located = locate_tensors(weights)
    architecture = _with_actual_tying(configuration.architecture, located)
    check_tensors(architecture, located, directory)
    return Checkpoint(
        directory=directory,
        architecture=architecture,
        end_ids=configuration.end_ids,
        pad_id=configuration.pad_id,
        tensors={name: located[name] for name in expected_tensors(architecture)},
        tokenizer=read_tokenizer(directory, architecture.vocab_size),
    )


def _with_actual_tying(
    architecture: Architecture, located: Mapping[str, TensorLocation]
) -> Architecture:
    """Uses an output projection in the file, as transformers does.

    (transformers 5.23, modeling_utils.py, tie_weights: weights stored twice are tied only when
    they are equal, which makes no difference to the result.)
    """
    tied = architecture.tied_embeddings and OUTPUT_PROJECTION not in located
    return replace(architecture, tied_embeddings=tied)
