"""A checkpoint and a recipe resolved, and the combinations that make no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from falconry.checkpoint.reader import Checkpoint, read_checkpoint
from falconry.engine.openvino.builder import OpenVinoBuilder
from falconry.engine.recipe import Recipe, load_recipe
from falconry.engine.spec import check, engine_spec
from falconry.errors import EngineError

FALCON_7B = Path(__file__).parents[2] / "data" / "checkpoints" / "falcon-7b"  # 256 positions


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return read_checkpoint(FALCON_7B)


def recipe(name: str = "cpu-f32", **changes: dict[str, Any]) -> Recipe:
    values = load_recipe(name).model_dump()
    for table, change in changes.items():
        values[table] = values[table] | change if isinstance(change, dict) else change
    return Recipe.model_validate(values)


@pytest.mark.parametrize("name", ["cpu", "cpu-bf16", "cpu-f32"])
def test_the_shipped_recipes_suit_a_falcon(checkpoint: Checkpoint, name: str) -> None:
    OpenVinoBuilder().check(engine_spec(checkpoint, load_recipe(name)))


def test_limits_left_out_come_from_the_checkpoint(checkpoint: Checkpoint) -> None:
    limits = engine_spec(checkpoint, recipe()).limits

    assert (limits.max_seq_len, limits.max_input_len) == (256, 255)


def test_limits_that_are_given_are_kept(checkpoint: Checkpoint) -> None:
    limits = engine_spec(
        checkpoint, recipe(limits={"max_seq_len": 128, "max_input_len": 100})
    ).limits

    assert (limits.max_seq_len, limits.max_input_len) == (128, 100)


def test_all_problems_are_told_together(checkpoint: Checkpoint) -> None:
    spec = engine_spec(
        checkpoint,
        recipe(
            dtype="bfloat16",
            limits={
                "max_seq_len": 300,
                "max_input_len": 300,
                "max_batch_size": 65,
                "max_num_tokens": 64,
            },
            kv_cache={"memory_gib": 1e-6},
        ),
    )

    with pytest.raises(EngineError) as raised:
        OpenVinoBuilder().check(spec)

    text = str(raised.value)
    assert "max_seq_len 300 exceeds the checkpoint's 256 positions" in text
    assert "max_input_len 300 leaves no room for an answer within max_seq_len 300" in text
    assert "max_num_tokens 64 is less than one token for each of max_batch_size 65" in text
    assert "kv_cache.dtype float32 needs dtype float32, not bfloat16" in text
    assert "a request of max_seq_len 300 can never fit" in text


def test_what_no_runtime_could_mend_is_refused_without_one(checkpoint: Checkpoint) -> None:
    with pytest.raises(EngineError, match="exceeds the checkpoint's 256 positions"):
        check(engine_spec(checkpoint, recipe(limits={"max_seq_len": 257})))


def test_float16_arithmetic_is_refused_on_a_cpu(checkpoint: Checkpoint) -> None:
    spec = engine_spec(checkpoint, recipe(dtype="float16", kv_cache={"dtype": "float16"}))

    with pytest.raises(EngineError, match="dtype float16 is not exact enough on a CPU"):
        OpenVinoBuilder().check(spec)
