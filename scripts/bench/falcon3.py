"""Falcon3 against optimum-cli's export: how fast it is built, and how fast it generates.

Both models run in the bare OpenVINO GenAI pipeline with the same settings, so that only the graphs
differ.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from falconry.files import remove
from scripts.bench.checkpoints import falcon3_checkpoint
from scripts.bench.engine_build import (
    build_engine,
    builder_time,
    export_with_optimum,
    optimum_time,
    runnable_recipes,
)
from scripts.bench.processes import Command, alternate, run
from scripts.bench.prompts import BATCHES
from scripts.bench.results import Point, Result, TimesBetter
from scripts.bench.workplace import Workplace

FASTER_BUILD = TimesBetter(5)
NOT_SLOWER = TimesBetter(0.95)

# By our recipe: optimum's --weight-format, and the arithmetic of both.
_FORMATS = {"cpu": ("int8", "f32"), "cpu-bf16": ("fp16", "bf16")}

# Tokens a second by batch size.
_Speeds = dict[int, float]


def measure_falcon3(workplace: Workplace, rounds: int) -> Iterator[Result]:
    """The build and then the generation, in each precision that this CPU has.

    Raises:
        BenchError: a build or a generation fails.
    """
    checkpoint = falcon3_checkpoint(workplace)
    for recipe in runnable_recipes():
        weight_format, precision = _FORMATS[recipe]
        what = f"Falcon3, {recipe}"
        builders = {
            "builder": builder_time(workplace, checkpoint, recipe),
            "optimum-cli": optimum_time(workplace, checkpoint, weight_format),
        }
        ours, peers = _split(alternate(f"{what}: build", rounds, builders))
        yield Result(f"{what}: build", "s", ours, peers, FASTER_BUILD)

        models = {
            "falconry": build_engine(workplace, checkpoint, recipe),
            "optimum-cli": export_with_optimum(workplace, checkpoint, weight_format),
        }
        generators = {
            name: _generates(workplace, model, precision) for name, model in models.items()
        }
        speeds = alternate(f"{what}: generation", rounds, generators)
        for batch in BATCHES:
            samples = {name: [each[batch] for each in taken] for name, taken in speeds.items()}
            ours, peers = _split(samples)
            point = Point(f"{what}: generation", "at a time", batch)
            title = f"{what}: {batch} at a time"
            yield Result(title, "tokens/s", ours, peers, NOT_SLOWER, point=point)
    remove(workplace.directory / "engines")


def _split(
    samples: dict[str, list[float]],
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Ours, which come first, and the peer's."""
    (ours, mine), (peer, theirs) = samples.items()
    return {ours: mine}, {peer: theirs}


def _generates(workplace: Workplace, model: Path, precision: str) -> Callable[[], _Speeds]:
    module = "scripts.bench.generate_with_genai"

    def speeds() -> _Speeds:
        command: Command = [workplace.python, "-m", module, model, precision]
        loads = json.loads(run(command, workplace.root).splitlines()[-1])
        return {int(batch): each["output_token_throughput"] for batch, each in loads.items()}

    return speeds
