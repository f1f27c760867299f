"""A recipe: the choices that turn a checkpoint into one particular engine.

Recipes are TOML files in engine/recipes; this module is their schema.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, ValidationError

from falconry.errors import SettingsError
from falconry.settings import read_toml, validation_problem

RECIPES = Path(__file__).parents[2] / "engine" / "recipes"

FloatType = Literal["float32", "bfloat16", "float16"]
CacheType = Literal["float32", "bfloat16", "float16", "uint8"]
Quantization = Literal["none", "int8_weight_only"]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class RecipeLimits(_Table):
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


class KvCache(_Table):
    """The paged key/value cache.

    Attributes:
        dtype: element type of the cached keys and values.
        memory_gib: what all requests' cached keys and values may take together, in GiB.
    """

    dtype: CacheType
    memory_gib: PositiveFloat


class Recipe(_Table):
    """How an engine is made.

    Attributes:
        description: one line for people.
        dtype: type of the weights, unless quantised, and of the arithmetic.
        quantization: what happens to the weight matrices.
    """

    description: str
    dtype: FloatType
    quantization: Quantization
    limits: RecipeLimits
    kv_cache: KvCache


def load_recipe(name: str, directory: Path = RECIPES) -> Recipe:
    """Loads a recipe by its name, the file name without ".toml".

    Raises:
        SettingsError: there is no such recipe, or its file is not a valid one.
    """
    names = recipe_names(directory)
    path = directory / f"{name}.toml"
    if name not in names:
        raise SettingsError(
            f"there is no recipe {name!r}",
            where=directory,
            remedy=f"choose one of {', '.join(names)}",
        )
    try:
        return Recipe.model_validate(read_toml(path))
    except ValidationError as error:
        raise SettingsError(
            validation_problem(error), where=path, remedy="correct these values"
        ) from None


def recipe_names(directory: Path = RECIPES) -> list[str]:
    """The names of the recipes there are, sorted."""
    return sorted(path.stem for path in directory.glob("*.toml"))
