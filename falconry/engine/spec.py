"""What is to be built: a checkpoint's facts and a recipe's choices, resolved and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from falconry.checkpoint.architecture import FalconArchitecture
from falconry.checkpoint.reader import Checkpoint
from falconry.engine.recipe import Recipe
from falconry.errors import EngineError

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class ResolvedLimits:
    """A recipe's limits with nothing left out; see RecipeLimits."""

    max_batch_size: int
    max_input_len: int
    max_seq_len: int
    max_num_tokens: int


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Everything about an engine that does not depend on the builder or the machine.

    Attributes:
        end_id: token that ends an answer unless a request says otherwise; None for no such token.
        pad_id: token that fills a batch.
    """

    architecture: FalconArchitecture
    recipe: Recipe
    limits: ResolvedLimits
    end_id: int | None
    pad_id: int

    @property
    def kv_cache_bytes(self) -> int:
        """Memory that the recipe grants the key/value cache."""
        return int(self.recipe.kv_cache.memory_gib * GIB)


def engine_spec(checkpoint: Checkpoint, recipe: Recipe) -> EngineSpec:
    """Applies a recipe to a checkpoint; `check` says whether the result makes sense."""
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
        end_id=checkpoint.end_id,
        pad_id=checkpoint.pad_id,
    )


def check(spec: EngineSpec, problems_of_runtime: Sequence[str] = ()) -> None:
    """Refuses what no builder can build, or whose engine could not serve its own limits.

    Args:
        spec: the spec.
        problems_of_runtime: what a builder has found besides.

    Raises:
        EngineError: it names every problem there is.
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
