"""Graphs that would serve wrong answers, or none, are caught when they are built."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openvino as ov
import pytest
from openvino import opset13 as op

from falconry.checkpoint.reader import read_checkpoint
from falconry.engine.openvino import blocks
from falconry.engine.openvino.self_check import check_model
from falconry.errors import EngineError

pytestmark = pytest.mark.slow

Build = Callable[[Path, str, Path], Path]


def alibi_with_one_reshape(attention_mask: Any, slopes: Any) -> Any:
    positions = op.unsqueeze(op.convert(attention_mask, ov.Type.f32), blocks.integers(1))
    bias = op.multiply(blocks.floats(slopes.reshape(1, -1, 1)), positions)
    return op.unsqueeze(bias, blocks.integers(2))


def alibi_with_the_slopes_second(attention_mask: Any, slopes: Any) -> Any:
    positions = op.unsqueeze(op.convert(attention_mask, ov.Type.f32), blocks.integers(1))
    bias = op.multiply(positions, blocks.floats(slopes.reshape(1, -1, 1)))
    flat = op.reshape(bias, blocks.integers(0, -1), special_zero=True)
    return op.reshape(flat, blocks.integers(0, len(slopes), 1, -1), special_zero=True)


def alibi_with_other_slopes(attention_mask: Any, slopes: Any) -> Any:
    return GOOD_BIAS(attention_mask, slopes * 2)


def alibi_left_out(attention_mask: Any, slopes: Any) -> Any:
    return blocks.floats(0.0)


GOOD_BIAS = blocks.alibi_bias


@pytest.mark.parametrize(
    "broken",
    [
        alibi_with_one_reshape,
        alibi_with_the_slopes_second,
        alibi_with_other_slopes,
        alibi_left_out,
    ],
)
def test_lost_or_changed_alibi_slopes_are_caught(
    broken: Any, families: Path, build_engine: Build, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(blocks, "alibi_bias", broken)

    with pytest.raises(EngineError, match=r"ALiBi slopes are not|OpenVINO cannot serve"):
        build_engine(families / "falcon-rw", "cpu-f32", tmp_path / "engine")


def test_key_value_heads_repeated_in_another_way_are_caught(
    families: Path, build_engine: Build, tmp_path: Path, monkeypatch: Any
) -> None:
    def tiled(x: Any, repeats: int, heads: int, head_size: int) -> Any:
        tiles = op.tile(op.unsqueeze(x, blocks.integers(2)), blocks.integers(1, 1, repeats, 1, 1))
        whole = blocks.integers(0, heads * repeats, -1, head_size)
        return op.reshape(tiles, whole, special_zero=True)

    monkeypatch.setattr(blocks, "repeat_heads", tiled)

    with pytest.raises(EngineError, match="OpenVINO cannot serve the model"):
        build_engine(families / "falcon-40b", "cpu-f32", tmp_path / "engine")


def test_heads_repeated_before_the_cache_are_caught(
    families: Path, build_engine: Build, tmp_path: Path, monkeypatch: Any
) -> None:
    cached, repeat_heads = blocks.cached, blocks.repeat_heads

    def repeated_and_cached(x: Any, name: str, beam_idx: Any, heads: int, size: int) -> Any:
        return cached(repeat_heads(x, 4, heads, size), name, beam_idx, 4 * heads, size)

    monkeypatch.setattr(blocks, "cached", repeated_and_cached)
    monkeypatch.setattr(blocks, "repeat_heads", lambda x, repeats, heads, size: x)

    with pytest.raises(EngineError, match="'num_k_heads': 8"):
        build_engine(families / "falcon-40b", "cpu-f32", tmp_path / "engine")


def test_a_model_that_cannot_be_read_back_is_caught(
    families: Path, engine_of: Callable[[Path, str], Path], tmp_path: Path
) -> None:
    engine = shutil.copytree(engine_of(families / "falcon-7b", "cpu-f32"), tmp_path / "engine")
    model = engine / "openvino_model.xml"
    model.write_bytes(model.read_bytes()[:1000])

    with pytest.raises(EngineError, match=r"openvino_model\.xml: OpenVINO cannot serve"):
        check_model(model, read_checkpoint(families / "falcon-7b").architecture)
