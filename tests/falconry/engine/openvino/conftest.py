"""Engines built for the tests, each once, and opened as their `engine.json` says."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai
import pytest

from falconry.checkpoint.reader import read_checkpoint
from falconry.engine.openvino.builder import OpenVinoBuilder
from falconry.engine.recipe import load_recipe
from falconry.engine.spec import engine_spec

ROOT = Path(__file__).parents[4]
HAS_BFLOAT16 = "avx512_bf16" in Path("/proc/cpuinfo").read_text()


@pytest.fixture(scope="session")
def tiny_falcon() -> Path:
    return ROOT / "checkpoints" / "tiny-falcon"


@pytest.fixture(scope="session")
def families() -> Path:
    return ROOT / "tests" / "data" / "checkpoints"


def build(checkpoint: Path, recipe: str, output: Path) -> Path:
    facts = read_checkpoint(checkpoint)
    spec = engine_spec(facts, load_recipe(recipe))
    builder = OpenVinoBuilder()
    builder.check(spec)
    output.mkdir(exist_ok=True)
    builder.build(spec, facts, output, lambda step, done: None, lambda path: None)
    return output


@pytest.fixture(scope="session")
def build_engine() -> Callable[[Path, str, Path], Path]:
    """Builds an engine of a checkpoint by a recipe into a directory."""
    return build


@pytest.fixture(scope="session")
def engine_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, str], Path]:
    """An engine of a checkpoint by a recipe, the same one each time."""
    built: dict[tuple[Path, str], Path] = {}

    def engine(checkpoint: Path, recipe: str) -> Path:
        key = (checkpoint, recipe)
        if key not in built:
            built[key] = build(checkpoint, recipe, tmp_path_factory.mktemp("engine"))
        return built[key]

    return engine


class Served:
    """An engine opened for continuous batching."""

    def __init__(self, engine: Path) -> None:
        self.serving: dict[str, Any] = json.loads((engine / "engine.json").read_text())
        properties = self.serving["device_properties"]
        if properties["INFERENCE_PRECISION_HINT"] == "bf16" and not HAS_BFLOAT16:
            pytest.skip("this CPU has no bfloat16 instructions")
        scheduler = openvino_genai.SchedulerConfig()
        for name, value in self.serving["scheduler"].items():
            setattr(scheduler, name, value)
        self.pipeline = openvino_genai.ContinuousBatchingPipeline(
            str(engine), scheduler, self.serving["device"], properties
        )

    def answers(
        self, prompts: Sequence[Sequence[int]], tokens: int, **settings: Any
    ) -> list[list[int]]:
        """Greedy answers to prompts of token ids, all at the same time."""
        handles = []
        for number, ids in enumerate(prompts):
            config = openvino_genai.GenerationConfig(max_new_tokens=tokens, **settings)
            tensor = openvino.Tensor(np.array([ids], dtype=np.int64))
            handles.append(self.pipeline.add_request(number, tensor, config))
        while self.pipeline.has_non_finished_requests():
            self.pipeline.step()
        return [list(handle.read_all()[0].generated_ids) for handle in handles]


@pytest.fixture(scope="session")
def serve() -> Callable[[Path], Served]:
    """Opens an engine."""
    return Served
