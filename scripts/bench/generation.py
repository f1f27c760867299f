"""How many tokens a second are generated, against transformers.generate on the same cores."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from falconry.files import remove
from scripts.bench.checkpoints import small_checkpoint
from scripts.bench.engine_build import build_engine, runnable_recipes
from scripts.bench.processes import Command, alternate, run
from scripts.bench.prompts import BATCHES
from scripts.bench.results import Point, Result, TimesBetter
from scripts.bench.workplace import Workplace

FASTER_THAN_TRANSFORMERS = {1: TimesBetter(1.5), 8: TimesBetter(2), 32: TimesBetter(2)}

_DTYPES = ("float32", "bfloat16")

# Tokens a second by batch size.
Speeds = dict[int, float]


def measure_generation(workplace: Workplace, rounds: int) -> Iterator[Result]:
    """A result each batch size; on both sides the best precision counts.

    Raises:
        BenchError: a build or a generation fails.
    """
    checkpoint = small_checkpoint(workplace)
    transformers = workplace.peer("transformers")
    recipes = runnable_recipes()
    ours = {name: _falconry(workplace, checkpoint, name) for name in recipes}
    peers = {name: _transformers(workplace, transformers, checkpoint, name) for name in _DTYPES}
    speeds = alternate("generation", rounds, ours | peers)
    for batch in BATCHES:

        def samples(names: tuple[str, ...], batch: int = batch) -> dict[str, list[float]]:
            return {name: [each[batch] for each in speeds[name]] for name in names}

        yield Result(
            f"generation, {batch} at a time",
            "tokens/s",
            samples(recipes),
            samples(_DTYPES),
            FASTER_THAN_TRANSFORMERS[batch],
            point=Point("generation", "at a time", batch),
        )
    remove(workplace.directory / "engines")


def _falconry(workplace: Workplace, checkpoint: Path, recipe: str) -> Callable[[], Speeds]:
    engine = build_engine(workplace, checkpoint, recipe)
    module = "scripts.bench.generate_with_falconry"
    return lambda: _speeds([workplace.python, "-m", module, engine], workplace)


def _transformers(
    workplace: Workplace, environment: Path, checkpoint: Path, dtype: str
) -> Callable[[], Speeds]:
    python = environment / "bin" / "python"
    module = "scripts.bench.generate_with_transformers"
    return lambda: _speeds([python, "-m", module, checkpoint, dtype], workplace)


def _speeds(command: Command, workplace: Workplace) -> Speeds:
    output = json.loads(run(command, workplace.root).splitlines()[-1])
    return {int(batch): speed for batch, speed in output.items()}
