"""A GPU engine's spec: checkpoint facts, recipe, toolchain row and shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from falconry.checkpoint.architecture import Architecture
from falconry.checkpoint.config import configuration_of
from falconry.checkpoint.files import read_json
from falconry.checkpoint.reader import read_checkpoint
from falconry.checkpoint.source import CheckpointSource
from falconry.checkpoint.tensors import expected_tensors
from falconry.data_files import project_file
from falconry.engine.tensorrt_llm.recipe import GpuRecipe, PublishedModel
from falconry.engine.toolchain import Toolchain
from falconry.errors import CheckpointError
from falconry.oci_facts import GpuShape

PUBLISHED = "engine/published"

# Published Falcons store two bytes an element (bfloat16).
_PUBLISHED_BYTES = 2


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The facts of a checkpoint that decide commands and checks.

    Attributes:
        num_parameters: elements of all tensors; a tied output projection counts once.
        checkpoint_bytes: size of the weights on disk.
        at_hand: whether they were read from the checkpoint, not from a published config.json that
            came with this program.
    """

    architecture: Architecture
    num_parameters: int
    checkpoint_bytes: int
    end_ids: tuple[int, ...]
    pad_id: int
    at_hand: bool


def chosen_source(checkpoint: str | None, model: PublishedModel) -> CheckpointSource | None:
    """The checkpoint of the user, or else the recipe's; None without either."""
    if checkpoint:
        return CheckpointSource.parse(checkpoint)
    if model.path:
        return CheckpointSource.parse(str(model.path))
    if model.hub and model.revision:
        return CheckpointSource.parse(f"hub:{model.hub}@{model.revision}")
    return None


def model_facts(source: CheckpointSource | None, model: PublishedModel) -> ModelFacts | None:
    """The facts that are known without fetching anything; None when none are."""
    directory = source.at_hand() if source else None
    if directory is not None:
        return facts_of(directory)
    repository = source.hub.repository if source and source.hub else model.hub
    path = project_file(PUBLISHED) / f"{str(repository).rpartition('/')[2]}.json"
    return _published_facts(path) if path.is_file() else None


def facts_of(directory: Path) -> ModelFacts:
    """The facts of a checkpoint that is here."""
    checkpoint = read_checkpoint(directory)
    files = {tensor.path for tensor in checkpoint.tensors.values()}
    return ModelFacts(
        architecture=checkpoint.architecture,
        num_parameters=checkpoint.num_parameters,
        checkpoint_bytes=sum(path.stat().st_size for path in files),
        end_ids=checkpoint.end_ids,
        pad_id=checkpoint.pad_id,
        at_hand=True,
    )


def require_source(source: CheckpointSource | None, model: PublishedModel) -> CheckpointSource:
    """The source; refuses None: no commit of the model was confirmed."""
    if source is None:
        raise CheckpointError(
            f"the recipe's model {model.hub} has no commit that was confirmed",
            remedy=f"name one: CHECKPOINT=hub:{model.hub}@<40 hex digits>, or a directory",
        )
    return source


def _published_facts(path: Path) -> ModelFacts:
    configuration = configuration_of(read_json(path), path)
    shapes = expected_tensors(configuration.architecture).values()
    parameters = sum(math.prod(shape) for shape in shapes)
    return ModelFacts(
        architecture=configuration.architecture,
        num_parameters=parameters,
        checkpoint_bytes=_PUBLISHED_BYTES * parameters,
        end_ids=configuration.end_ids,
        pad_id=configuration.pad_id,
        at_hand=False,
    )


@dataclass(frozen=True, slots=True)
class GpuEngineSpec:
    """Everything that decides an engine, apart from the machine.

    Attributes:
        num_parameters: elements of all tensors; a tied output projection counts once.
        checkpoint_bytes: size of the weights on disk.
        end_ids: tokens that end an answer unless a request names another, the first one first.
        image: the image's reference, with digest where it is known; a profile may name another
            than the row's.
        image_replaced: whether it does.
        shape: where the engine shall run, which decides the GPU architecture.
    """

    architecture: Architecture
    num_parameters: int
    checkpoint_bytes: int
    end_ids: tuple[int, ...]
    pad_id: int
    recipe: GpuRecipe
    toolchain: Toolchain
    image: str
    image_replaced: bool
    shape: GpuShape

    @classmethod
    def of(
        cls,
        facts: ModelFacts,
        recipe: GpuRecipe,
        toolchain: Toolchain,
        shape: GpuShape,
        image: str | None,
    ) -> GpuEngineSpec:
        """The spec of a checkpoint; the profile's `image` overrides the row's."""
        return cls(
            architecture=facts.architecture,
            num_parameters=facts.num_parameters,
            checkpoint_bytes=facts.checkpoint_bytes,
            end_ids=facts.end_ids,
            pad_id=facts.pad_id,
            recipe=recipe,
            toolchain=toolchain,
            image=image or toolchain.reference,
            image_replaced=image is not None,
            shape=shape,
        )
