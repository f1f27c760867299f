"""What a Falcon checkpoint is: architecture, tensors, tokenizer, and the files that decide it.

Its names are imported when they are asked for: to know that an unchanged checkpoint is one needs
the list of its files alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_MODULES = {
    "Checkpoint": "reader",
    "FalconArchitecture": "architecture",
    "TensorLocation": "tensors",
    "TokenizerFacts": "tokenizer",
    "checkpoint_files": "files",
    "read_checkpoint": "reader",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
