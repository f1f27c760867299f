"""Weights in the engine's form: types, rounding, quantisation and the order of rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from falconry.checkpoint.reader import read_checkpoint
from falconry.engine.openvino.weights import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    INT8,
    ElementType,
    from_float32,
    prepare_weights,
    quantize_rows,
    to_float32,
)
from falconry.engine.spec import load_recipe

MATRIX = "transformer.h.0.mlp.dense_h_to_4h.weight"
NORM = "transformer.ln_f.weight"


@pytest.mark.parametrize(
    ("name", "recipe", "element"),
    [
        ("falcon-7b", "cpu-f32", FLOAT32),
        ("falcon-40b", "cpu-f32", BFLOAT16),  # float32 would say no more
        ("falcon2-11b", "cpu-f32", FLOAT16),
        ("falcon-7b", "cpu-bf16", BFLOAT16),
        ("falcon2-11b", "cpu-bf16", BFLOAT16),
        ("falcon-7b", "cpu", INT8),
    ],
)
def test_matrices_take_the_recipes_type_and_vectors_float32(
    name: str, recipe: str, element: ElementType, families: Path, tmp_path: Path
) -> None:
    checkpoint = read_checkpoint(families / name)
    weights = prepare_weights(checkpoint, load_recipe(recipe), tmp_path, lambda done: None)

    assert weights.keys() == checkpoint.tensors.keys()
    assert weights[MATRIX].element is element
    assert weights[NORM].element is FLOAT32
    assert (weights[MATRIX].scales is not None) == (element is INT8)
    assert list(tmp_path.iterdir()) == []


def test_a_falcon3_is_mapped_from_the_checkpoint_as_it_is(families: Path, tmp_path: Path) -> None:
    """Its queries, keys and values are apart, so that no row has to move."""
    checkpoint = read_checkpoint(families / "falcon3")
    (path,) = {tensor.path for tensor in checkpoint.tensors.values()}
    stored = path.read_bytes()

    weights = prepare_weights(checkpoint, load_recipe("cpu-bf16"), tmp_path, lambda done: None)

    for name, tensor in checkpoint.tensors.items():
        if len(tensor.shape) == 1:
            continue
        assert not weights[name].values.flags.owndata  # a view of the mapped file
        assert weights[name].values.tobytes() == stored[tensor.offset : tensor.end]


# IEEE 754 round to nearest, ties to even, worked out by hand.
@pytest.mark.parametrize(
    ("bits", "rounded"),
    [
        (0x3F800000, 0x3F80),
        (0x3F808000, 0x3F80),  # a tie, down to even
        (0x3F818000, 0x3F82),  # a tie, up to even
        (0x3F808001, 0x3F81),
        (0xBF80FFFF, 0xBF81),
        (0x7F7FFFFF, 0x7F80),
        (0xFF800000, 0xFF80),
        (0x00000001, 0x0000),
    ],
)
def test_bfloat16_is_rounded_to_nearest_even(bits: int, rounded: int) -> None:
    value = np.array([bits], np.uint32).view(np.float32)

    assert from_float32(value, BFLOAT16).tolist() == [rounded]


def test_bfloat16_widens_exactly() -> None:
    every = np.arange(1 << 16, dtype=np.uint16)
    finite = every[(every & 0x7F80) != 0x7F80]

    assert np.array_equal(from_float32(to_float32(finite, BFLOAT16), BFLOAT16), finite)


def test_a_value_beyond_float16_is_refused() -> None:
    with pytest.raises(OverflowError, match="too large for f16"):
        from_float32(np.array([1.0, 70000.0], np.float32), FLOAT16)


def test_quantised_rows_are_within_half_a_step_of_the_original() -> None:
    rows = np.random.default_rng(1).normal(0, [[0.02], [3.0], [1e-4]], (3, 512))
    rows = rows.astype(np.float32)

    levels, scales = quantize_rows(rows.copy())
    restored = levels * scales.astype(np.float32)

    assert levels.dtype == np.int8 and scales.dtype == np.float16
    assert np.abs(levels).max(axis=1).tolist() == [127, 127, 127]
    assert (np.abs(restored - rows) <= 0.5001 * scales.astype(np.float32)).all()


def test_a_row_of_zeros_stays_one() -> None:
    levels, scales = quantize_rows(np.zeros((1, 8), np.float32))

    assert levels.tolist() == [[0] * 8] and np.isfinite(scales).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e9])
def test_what_has_no_scale_is_refused(bad: float) -> None:
    with pytest.raises(FloatingPointError, match="not finite or exceeds"):
        quantize_rows(np.array([[1.0, bad]], np.float32))
