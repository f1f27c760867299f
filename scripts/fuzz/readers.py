"""Damaged files for every reader: checkpoints, TOML, Triton configurations, engines, archives.

What a reader may do: return, or raise a FalconryError that is one sentence without a control
character. It may also not disagree with safetensors' own library about a file of tensors, nor write
outside the directory that an archive is unpacked into.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from scripts.fuzz import checkpoint_readers, record_readers, table_readers
from scripts.fuzz.exploring import Outcome, explore, total
from scripts.fuzz.surfaces import Surface

SURFACES = (
    *checkpoint_readers.surfaces(),
    *table_readers.surfaces(),
    *record_readers.surfaces(),
)


def run(seed: int, examples: int) -> Outcome:
    """Gives every reader its inputs."""
    return total(*(run_surface(surface, seed, examples) for surface in SURFACES))


def run_surface(surface: Surface, seed: int, examples: int) -> Outcome:
    """Gives one reader its inputs, in a directory that is removed afterwards."""
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)

        def check(example: Any) -> None:
            surface.check(work, example)

        return explore(f"readers: {surface.name}", surface.inputs, check, seed, examples)
