"""What is built: a checkpoint's facts and a recipe's choices, checked.

Recipes are TOML files in engine/recipes; their schema is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, PositiveFloat, PositiveInt

from falconry.checkpoint.architecture import Architecture
from falconry.checkpoint.reader import Checkpoint
from falconry.data_files import Table, project_file, read_toml, validate_table
from falconry.errors import EngineError, SettingsError

RECIPES = "engine/recipes"

FloatType = Literal["float32", "bfloat16", "float16"]
CacheType = Literal["float32", "bfloat16", "float16", "uint8"]
Quantization = Literal["none", "int8_weight_only"]
GIB = 1 << 30


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
        dtype: of the elements.
        memory_gib: what all requests' cached keys and values may take together, in GiB.
    """

    dtype: CacheType
    memory_gib: Annotated[PositiveFloat, Field(le=1 << 20)]


class Recipe(Table):
    """How an engine for OpenVINO on a CPU is made.

    Attributes:
        builder: that the recipe is for.
        description: shown where recipes are listed.
        dtype: type of the weights, unless quantised, and of the arithmetic.
        quantization: of the weights.
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


@dataclass(frozen=True, slots=True)
class ResolvedLimits:
    """A recipe's limits with nothing left out; see RecipeLimits."""

    max_batch_size: int
    max_input_len: int
    max_seq_len: int
    max_num_tokens: int


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Everything about an engine apart from the builder and the machine.

    Attributes:
        end_ids: tokens that end an answer unless a request names another, the first one first.
    """

    architecture: Architecture
    recipe: Recipe
    limits: ResolvedLimits
    end_ids: tuple[int, ...]
    pad_id: int

    @property
    def kv_cache_bytes(self) -> int:
        """Memory that the recipe grants the key/value cache."""
        return int(self.recipe.kv_cache.memory_gib * GIB)


def engine_spec(checkpoint: Checkpoint, recipe: Recipe) -> EngineSpec:
    """Applies a recipe to a checkpoint; `check` validates the result."""
    limits = recipe.limits
    max_seq_len = limits.max_seq_len or checkpoint.architecture.max_positions
    return EngineSpec(
        architecture=checkpoint.architecture,
        recipe=recipe,
        limits=ResolvedLimits(
            max_batch_size=limits.max_batch_size,
            max_input_len=limits.max_input_len or max_seq_len - 1,
            max_seq_len=max_seq_len,
            max_num_tokens=limits.max_num_tokens,
        ),
        end_ids=checkpoint.end_ids,
        pad_id=checkpoint.pad_id,
    )


def check(spec: EngineSpec, problems_of_runtime: Sequence[str] = ()) -> None:
    """Refuses what cannot be built, or could not serve its own limits.

    The error names every problem, with those that a builder has found (`problems_of_runtime`).
    """
    if problems := [*_problems(spec), *problems_of_runtime]:
        raise EngineError(
            f"the recipe does not suit the checkpoint: {'; '.join(problems)}",
            remedy="change the recipe or choose another",
        )


def _problems(spec: EngineSpec) -> list[str]:
    limits, positions = spec.limits, spec.architecture.max_positions
    problems = []
    if limits.max_seq_len > positions:
        problems.append(
            f"max_seq_len {limits.max_seq_len} exceeds the checkpoint's {positions} positions"
        )
    if limits.max_input_len >= limits.max_seq_len:
        problems.append(
            f"max_input_len {limits.max_input_len} leaves no room for an answer "
            f"within max_seq_len {limits.max_seq_len}"
        )
    if limits.max_num_tokens < limits.max_batch_size:
        problems.append(
            f"max_num_tokens {limits.max_num_tokens} is less than one token for each of "
            f"max_batch_size {limits.max_batch_size} requests"
        )
    return problems
