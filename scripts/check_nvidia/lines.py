"""Checks the command lines of our plans with NVIDIA's parsers or recorded flags."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from falconry.engine.spec import recipe_names
from falconry.engine.tensorrt_llm.commands import Phase, phases
from falconry.engine.tensorrt_llm.recipe import Calibration, GpuRecipe, load_gpu_recipe
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec, ModelFacts, chosen_source, model_facts
from falconry.engine.toolchain import Toolchain, load_toolchains
from falconry.oci_facts import gpu_shape
from scripts.check_nvidia.environment import Environment
from scripts.check_nvidia.sources import Source
from scripts.check_nvidia.table import Row, compared

_FLAGS = Path(__file__).resolve().parents[2] / "tests" / "data" / "trtllm_flags"
_PARSED = ("convert", "quantize", "build")
_SHAPE = "BM.GPU.H100.8"
_CALIBRATION = Calibration(dataset="/a/dataset", size=64, awq_block_size=64)
_VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"load_by_shard": True},
    {"quantization": "int8_weight_only"},
    {"quantization": "int4_weight_only"},
    {"quantization": "fp8", "calibration": _CALIBRATION},
    {"quantization": "int4_awq", "calibration": _CALIBRATION},
)


def kept_rows() -> list[Toolchain]:
    """The toolchains whose flags were recorded and that convert before they build."""
    return [
        row
        for row in load_toolchains().rows
        if (_FLAGS / f"{row.release}.json").is_file()
        and "convert_checkpoint" in row.converter.falcon[0]
    ]


def lines_of(row: Toolchain) -> list[Phase]:
    """Every command line that a plan has with this toolchain."""
    return [
        phase
        for name in recipe_names()
        if not name.startswith("cpu")
        for recipe, facts in [_recipe(name)]
        for changes in _VARIANTS
        for phase in _phases(recipe.model_copy(update=changes), facts, row)
    ]


@cache
def _recipe(name: str) -> tuple[GpuRecipe, ModelFacts]:
    recipe = load_gpu_recipe(name)
    facts = model_facts(chosen_source(None, recipe.model), recipe.model)
    assert facts is not None, f"nothing is known of {recipe.model.hub}"
    return recipe, facts


def _phases(recipe: GpuRecipe, facts: ModelFacts, row: Toolchain) -> Sequence[Phase]:
    spec = GpuEngineSpec.of(facts, recipe, row, gpu_shape(_SHAPE), None)
    return phases(spec, recipe.parallelism.world_size)


def read_lines(row: Toolchain) -> list[Row]:
    """Compares a toolchain's lines with the flags recorded for its release."""
    path = _FLAGS / f"{row.release}.json"
    known = json.loads(path.read_text(encoding="utf-8"))
    lines = lines_of(row)
    faults = [fault for line in lines for fault in recorded_faults(line, known)]
    note = f"recorded in {path.name}" if not faults else ", ".join(sorted(set(faults)))
    what = f"{len(lines)} command lines of {row.release}"
    return [Row(what, row.tensorrt_llm, "read", not faults, note)]


def recorded_faults(phase: Phase, known: dict[str, Any]) -> Iterator[str]:
    """What of a command line the recorded flags do not have."""
    kinds, choices = known[phase.name], known["choices"][phase.name]
    words = list(phase.arguments)
    while words:
        flag = words.pop(0)
        if flag not in kinds:
            yield f"{phase.name} lacks {flag}"
        if kinds.get(flag, "value") == "value" and words and not words[0].startswith("--"):
            value = words.pop(0)
            if value not in choices.get(flag, [value]):
                yield f"{phase.name} {flag} takes no {value}"


def run_lines(
    row: Toolchain, source: Source, environment: Environment, directory: Path
) -> list[Row]:
    """Gives a toolchain's lines to the parsers of a source of any release."""
    programs: dict[tuple[str, ...], list[Phase]] = {}
    for line in lines_of(row):
        if line.name in _PARSED:
            programs.setdefault((line.name, *line.programs), []).append(line)
    rows = []
    for (phase, *candidates), chosen in programs.items():
        script = Path(candidates[0]) if phase == "build" else source.script(tuple(candidates))
        family = f" for {Path(candidates[0]).parent.name}" if phase == "convert" else ""
        what = f"{len(chosen)} {phase} lines{family} of {row.release}"
        if script is None:
            rows.append(compared(what, source.name, ["the source has no such program"]))
            continue
        given = [
            {"phase": phase, "script": str(script), "arguments": list(each.arguments)}
            for each in chosen
        ]
        task = {"task": "parse", "root": str(source.root), "lines": given}
        answers = environment.run(task, directory)
        faults = {answer["error"] for answer in answers if "error" in answer}
        rows.append(compared(what, source.name, sorted(faults)))
    return rows
