"""Builds an engine without the stage around it; prints the seconds that the builder alone took.

Run by the benchmark as `python -m scripts.bench.build_alone CHECKPOINT RECIPE OUTPUT`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from falconry.checkpoint import read_checkpoint
from falconry.engine.openvino.builder import OpenVinoBuilder
from falconry.engine.recipe import load_recipe
from falconry.engine.spec import engine_spec


def main(directory: str, recipe: str, output: str) -> None:
    """Builds into the new directory `output`; the timing begins when the checkpoint was read."""
    checkpoint = read_checkpoint(Path(directory))
    spec = engine_spec(checkpoint, load_recipe(recipe))
    builder = OpenVinoBuilder()
    builder.check(spec)
    Path(output).mkdir(parents=True)
    started = time.perf_counter()
    builder.build(spec, checkpoint, Path(output), lambda step, fraction: None)
    print(time.perf_counter() - started)


if __name__ == "__main__":
    main(*sys.argv[1:])
