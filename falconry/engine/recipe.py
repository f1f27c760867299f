"""A recipe: the choices that turn a checkpoint into one particular engine.

Recipes are TOML files in engine/recipes; this module is their schema.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import PositiveFloat, PositiveInt

from falconry.data_files import Table, project_file, read_toml, validate_table
from falconry.errors import SettingsError

RECIPES = "engine/recipes"

FloatType = Literal["float32", "bfloat16", "float16"]
CacheType = Literal["float32", "bfloat16", "float16", "uint8"]
Quantization = Literal["none", "int8_weight_only"]


class RecipeLimits(Table):
    """The largest requests an engine serves.

    Attributes:
        max_batch_size: requests answered at the same time.
        max_input_len: tokens of a prompt; left out, one less than `max_seq_len`.
        max_seq_len: tokens of prompt and answer together; left out, the checkpoint's positions.
        max_num_tokens: tokens of all requests that one step computes; longer prompts take
            several steps, between which other requests proceed.
    """

    max_batch_size: PositiveInt
    max_input_len: PositiveInt | None = None
    max_seq_len: PositiveInt | None = None
    max_num_tokens: PositiveInt


class KvCache(Table):
    """The paged key/value cache.

    Attributes:
        dtype: element type of the cached keys and values.
        memory_gib: what all requests' cached keys and values may take together, in GiB.
    """

    dtype: CacheType
    memory_gib: PositiveFloat


class Recipe(Table):
    """How an engine for OpenVINO on a CPU is made.

    Attributes:
        builder: whose recipe it is.
        description: one line for people.
        dtype: type of the weights, unless quantised, and of the arithmetic.
        quantization: what happens to the weight matrices.
    """

    builder: Literal["openvino"]
    description: str
    dtype: FloatType
    quantization: Quantization
    limits: RecipeLimits
    kv_cache: KvCache


_Kind = TypeVar("_Kind", bound=Table)


def load_recipe(name: str, directory: Path | None = None) -> Recipe:
    """Loads a CPU recipe; see `read_recipe`."""
    return read_recipe(name, Recipe, "openvino", directory)


def read_recipe(name: str, kind: type[_Kind], builder: str, directory: Path | None = None) -> _Kind:
    """Loads a recipe by its name, the file name without ".toml".

    Args:
        name: the recipe's name.
        kind: the schema of this builder's recipes.
        builder: the builder that the profile asks for.
        directory: where the recipes are; the checkout's when left out.

    Raises:
        SettingsError: there is no such recipe, it is another builder's, or its file is not valid.
    """
    directory = directory or project_file(RECIPES)
    names = recipe_names(directory)
    path = directory / f"{name}.toml"
    if name not in names:
        raise SettingsError(
            f"there is no recipe {name!r}",
            where=directory,
            remedy=f"choose one of {', '.join(names)}",
        )
    values = read_toml(path)
    _refuse_other_builders(name, values, builder)
    return validate_table(values, kind, path)


def recipe_names(directory: Path | None = None) -> list[str]:
    """The names of the recipes there are, sorted."""
    directory = directory or project_file(RECIPES)
    return sorted(path.stem for path in directory.glob("*.toml"))


def _refuse_other_builders(name: str, values: dict[str, Any], builder: str) -> None:
    theirs = values.get("builder", builder)
    if theirs != builder:
        raise SettingsError(
            f"the recipe {name!r} is for the builder {theirs}, and the profile asks for {builder}",
            remedy="choose another RECIPE or PROFILE",
        )
