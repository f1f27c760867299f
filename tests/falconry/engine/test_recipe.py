"""Recipes: the ones that are shipped, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from falconry.engine.spec import load_recipe, recipe_names
from falconry.errors import SettingsError

GOOD = """
builder = "openvino"
description = "for this test"
dtype = "float32"
quantization = "none"
[limits]
max_batch_size = 1
max_num_tokens = 64
[kv_cache]
dtype = "float32"
memory_gib = 1.0
"""


def test_the_shipped_recipes_differ_in_the_precision_of_weights_arithmetic_and_cache() -> None:
    recipes = {name: load_recipe(name) for name in ("cpu", "cpu-bf16", "cpu-f32")}

    assert {n: (r.quantization, r.dtype, r.kv_cache.dtype) for n, r in recipes.items()} == {
        "cpu": ("int8_weight_only", "float32", "uint8"),
        "cpu-bf16": ("none", "bfloat16", "bfloat16"),
        "cpu-f32": ("none", "float32", "float32"),
    }


def test_another_builders_recipe_is_refused() -> None:
    assert "falcon-7b" in recipe_names()
    with pytest.raises(SettingsError, match="is for the builder tensorrt_llm"):
        load_recipe("falcon-7b")


def test_an_unknown_recipe_is_refused_with_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text(GOOD)
    (tmp_path / "two.toml").write_text(GOOD)

    with pytest.raises(SettingsError, match="no recipe 'three'; choose one of one, two"):
        load_recipe("three", tmp_path)
    with pytest.raises(SettingsError, match="no recipe"):
        load_recipe("../one", tmp_path / "below")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("max_batch_size = 1", "max_batch_size = 0", r"limits\.max_batch_size: .*greater than 0"),
        ("max_batch_size = 1", "max_batch_sizes = 1", r"limits\.max_batch_sizes: unknown key"),
        ("max_batch_size = 1", 'max_batch_size = "1"', r"limits\.max_batch_size: .*integer"),
        ('dtype = "float32"\nq', 'dtype = "int3"\nq', "dtype: Input should be 'float32'"),
        ('"none"', '"int2"', "quantization: Input should be 'none' or 'int8_weight_only'"),
        ("memory_gib = 1.0", "", r"kv_cache\.memory_gib: Field required"),
        ("[limits]", "[limits", "is not valid TOML"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    assert old in GOOD
    (tmp_path / "wrong.toml").write_text(GOOD.replace(old, new))

    with pytest.raises(SettingsError, match=rf"wrong\.toml: .*{problem}"):
        load_recipe("wrong", tmp_path)
