"""Builds an engine as optimum-cli does: no stage, no digests, no flushing.

Run by the benchmark as `python -m scripts.bench.build_alone CHECKPOINT RECIPE OUTPUT`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from falconry.checkpoint.reader import read_checkpoint
from falconry.engine.openvino.builder import OpenVinoBuilder
from falconry.engine.spec import engine_spec, load_recipe


def main(directory: str, recipe: str, output: str) -> None:
    """Builds into the new directory `output`."""
    checkpoint = read_checkpoint(Path(directory))
    spec = engine_spec(checkpoint, load_recipe(recipe))
    builder = OpenVinoBuilder()
    builder.check(spec)
    Path(output).mkdir(parents=True)
    builder.build(spec, checkpoint, Path(output), lambda step, fraction: None, lambda path: None)


if __name__ == "__main__":
    main(*sys.argv[1:])
