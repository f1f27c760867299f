"""What is to be built for a GPU: a checkpoint's facts, a recipe, a toolchain row and a shape."""

from __future__ import annotations

from dataclasses import dataclass

from falconry.checkpoint.architecture import FalconArchitecture
from falconry.engine.tensorrt_llm.model import ModelFacts
from falconry.engine.tensorrt_llm.recipe import GpuRecipe
from falconry.engine.toolchain import Toolchain
from falconry.oci_facts import GpuShape


@dataclass(frozen=True, slots=True)
class GpuEngineSpec:
    """Everything that decides an engine, before anything is asked of the machine.

    Attributes:
        architecture: of the checkpoint.
        num_parameters: elements of all its tensors; a tied output projection counts once.
        checkpoint_bytes: size of its weights on disk.
        end_id: token that ends an answer unless a request says otherwise; None for none.
        pad_id: token that fills a batch.
        recipe: the choices.
        toolchain: the release that builds and serves.
        image: the image's full reference, with digest where one is known; a profile may name
            another than the row's.
        image_replaced: whether it does.
        shape: where the engine shall run, which decides the GPU architecture.
    """

    architecture: FalconArchitecture
    num_parameters: int
    checkpoint_bytes: int
    end_id: int | None
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
        """The spec of a checkpoint; `image` is the profile's in place of the row's."""
        return cls(
            architecture=facts.architecture,
            num_parameters=facts.num_parameters,
            checkpoint_bytes=facts.checkpoint_bytes,
            end_id=facts.end_id,
            pad_id=facts.pad_id,
            recipe=recipe,
            toolchain=toolchain,
            image=image or toolchain.reference,
            image_replaced=image is not None,
            shape=shape,
        )
