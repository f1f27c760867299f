"""What a Falcon checkpoint is: architecture, tensors, tokenizer, and the files that decide it."""

from __future__ import annotations

from falconry.checkpoint.architecture import FalconArchitecture
from falconry.checkpoint.files import checkpoint_files
from falconry.checkpoint.reader import Checkpoint, read_checkpoint
from falconry.checkpoint.tensors import TensorLocation
from falconry.checkpoint.tokenizer import TokenizerFacts

__all__ = [
    "Checkpoint",
    "FalconArchitecture",
    "TensorLocation",
    "TokenizerFacts",
    "checkpoint_files",
    "read_checkpoint",
]
