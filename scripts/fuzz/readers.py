"""Damaged files for every reader: checkpoints, TOML, Triton configurations, engines, archives.

What a reader may do: return, or raise a FalconryError that is one sentence without a control
character. It may also not disagree with safetensors' own library about a file of tensors, nor write
outside the directory that an archive is unpacked into.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from scripts.fuzz import checkpoint_readers, record_readers, table_readers
from scripts.fuzz.exploring import Failure, Outcome, explore, total
from scripts.fuzz.surfaces import Surface

SURFACES = (
    *checkpoint_readers.surfaces(),
    *table_readers.surfaces(),
    *record_readers.surfaces(),
)


def run(seed: int, examples: int) -> Outcome:
    """Gives every reader its inputs, in as many processes as there are cores."""
    with ProcessPoolExecutor(mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        runs = [pool.submit(_run_number, each, seed, examples) for each in range(len(SURFACES))]
        named = zip(SURFACES, runs, strict=True)
        return total(*(_outcome(surface, future) for surface, future in named))


def _run_number(number: int, seed: int, examples: int) -> Outcome:
    return run_surface(SURFACES[number], seed, examples)


def _outcome(surface: Surface, future: Future[Outcome]) -> Outcome:
    try:
        return future.result()
    except BrokenProcessPool:
        problem = "this reader, or another beside it, ended the process"
        return Outcome({surface.name: 0}, (Failure(surface.name, problem, "not known"),))


def run_surface(surface: Surface, seed: int, examples: int) -> Outcome:
    """Gives one reader its inputs, in a directory that is removed afterwards."""
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)

        def check(example: Any) -> None:
            surface.check(work, example)

        return explore(surface.name, surface.inputs, check, seed, examples)
