"""CPU shapes beside the tiny Falcon and a published one."""

from __future__ import annotations

from pathlib import Path

import pytest

from falconry.checkpoint.reader import read_checkpoint
from falconry.engine.openvino.serving import estimate
from falconry.engine.spec import GIB, EngineSpec, engine_spec, load_recipe
from falconry.errors import SettingsError
from falconry.oci_facts import load_cpu_shapes
from falconry.shapes.candidates import Candidate, cpu_candidates
from falconry.shapes.prices import Prices
from tests.falconry.engine.tensorrt_llm.specs import spec as gpu_spec

ROOT = Path(__file__).parents[3]


def spec_of(model: str, recipe: str = "cpu") -> EngineSpec:
    """The spec of a published Falcon."""
    tiny = engine_spec(read_checkpoint(ROOT / "checkpoints/tiny-falcon"), load_recipe(recipe))
    limits = tiny.limits.__class__(16, 2047, 2048, 256)
    return EngineSpec(gpu_spec(model).architecture, tiny.recipe, limits, 11, 11)


def by_name(
    spec: EngineSpec, concurrency: int = 1, ocpus: float = 1, prices: Prices | None = None
) -> dict[str, Candidate]:
    found = cpu_candidates(spec, load_cpu_shapes(), concurrency, ocpus, prices)
    return {each.shape: each for each in found}


def test_the_weights_have_the_size_of_a_built_engines_file(make_repository) -> None:  # type: ignore[no-untyped-def]
    model = make_repository() / "tensorrt_llm/1/openvino_model.bin"
    tiny = engine_spec(read_checkpoint(ROOT / "checkpoints/tiny-falcon"), load_recipe("cpu"))
    assert estimate(tiny).weights == pytest.approx(model.stat().st_size, rel=0.1)


@pytest.mark.parametrize(
    ("model", "recipe", "gb"),
    # Parameters of the model cards, at one or two bytes each.
    [("falcon-7b", "cpu", 6.92), ("falcon-7b", "cpu-bf16", 13.84), ("falcon-40b", "cpu", 41.8)],
)
def test_the_weights_have_the_published_number_of_parameters(
    model: str, recipe: str, gb: float
) -> None:
    assert estimate(spec_of(model, recipe)).weights / 1e9 == pytest.approx(gb, rel=0.02)


def test_a_flexible_shape_is_taken_in_the_least_size_that_holds_it() -> None:
    found = by_name(spec_of("falcon-40b"))["VM.Standard.E4.Flex"]
    # 41.8 GB are 39 GiB; one OCPU has 6 to 64 GiB (Oracle, supported-shapes.htm).
    assert found.ocpus == 1
    assert found.memory_gib is not None and 39 < found.memory_gib < 43
    assert 0 <= found.headroom < GIB


def test_more_ocpus_bring_the_memory_that_oracle_wants_for_them() -> None:
    found = by_name(spec_of("falcon-7b"), ocpus=8)["VM.Standard.E4.Flex"]
    assert (found.ocpus, found.memory_gib) == (8, 48)


def test_a_fixed_shape_that_is_too_small_is_told() -> None:
    found = by_name(spec_of("falcon-40b"))
    assert "GiB are needed, and VM.Standard2.1 has 15" in found["VM.Standard2.1"].problems[0]
    assert found["VM.Standard2.4"].fits


def test_requests_beyond_the_granted_cache_are_one_sentence() -> None:
    with pytest.raises(SettingsError, match=r"CONCURRENCY: 16 longest requests.*memory_gib 2"):
        by_name(spec_of("falcon-40b"), concurrency=16)


def test_flexible_shapes_cost_by_ocpu_and_memory() -> None:
    prices = Prices(
        currency="USD",
        ocpu_hour={"VM.Standard.E4.Flex": 0.5},
        gib_hour={"VM.Standard.E4.Flex": 0.25},
        shape_hour={"VM.Standard2.4": 3.0},
    )
    found = by_name(spec_of("falcon-7b"), ocpus=2, prices=prices)
    assert found["VM.Standard.E4.Flex"].price_hour == 2 * 0.5 + 12 * 0.25
    assert found["VM.Standard2.4"].price_hour == 3.0
    assert found["VM.Standard2.8"].price_hour is None
