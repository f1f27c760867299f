"""Container variables that follow from sizes and GPUs, with how each was worked out.

Oracle's samples set them by hand (oci-data-science-ai-samples, model-deployment/containers/llm).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from falconry.engine.manifest import Manifest
from falconry.errors import FalconryError
from falconry.image.output import ImageOutput
from falconry.oci_facts import load_limits, load_shapes
from falconry.progress import human_size
from falconry.settings import Settings

STORAGE = "STORAGE_SIZE_IN_GB"
TIMEOUT = "DEPLOYMENT_TIMEOUT_IN_MINUTES"
SHM = "SHM_SIZE"
STREAMING = "MODEL_DEPLOY_ENABLE_STREAMING"

# An update needs new instances, so one of some GB or minutes is saved by round numbers.
_STEP = 10
_GB = 10**9
# The CPU server image has 800 MB at most, unpacked (its test).
_CPU_IMAGE_BYTES = 800_000_000


@dataclass(frozen=True, slots=True)
class Sizes:
    """What an instance has to hold, in bytes.

    Attributes:
        image: compressed, as it is pulled.
        artifact: the zip.
        unpacked: its files.
        estimated: whether image and artifact are not made yet.
    """

    image: int
    artifact: int
    unpacked: int
    estimated: bool = False

    def __str__(self) -> str:
        parts = {"image": self.image, "zip": self.artifact, "unpacked": self.unpacked}
        listed = ", ".join(f"{name} {human_size(size)}" for name, size in parts.items())
        return f"{listed}; estimated" if self.estimated else listed


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable and how it was worked out."""

    name: str
    value: str
    why: str

    def __str__(self) -> str:
        return f"variable {self.name}={self.value} ({self.why})"


def image_bytes(image: ImageOutput) -> int:
    """Returns what is pulled of an image; the most that the cloud pulls where it is not known."""
    if image.kind == "process":
        return 0
    return image.compressed_bytes or load_limits().image.compressed_bytes


def ranks_of(engine: Manifest) -> int:
    """Returns how many GPUs share an engine; 0 on CPUs."""
    return engine.gpu.tensor_parallel * engine.gpu.pipeline_parallel if engine.gpu else 0


def worked_out(
    settings: Settings, sizes: Sizes | None, ranks: int, current: Mapping[str, str] | None = None
) -> list[Variable]:
    """Works out the variables; those of the profile replace ours.

    Args:
        settings: the profile.
        sizes: None where they are not known.
        ranks: how many GPUs share the engine.
        current: of the deployment, whose storage and timeout are never lowered: the update that
            lowers them may come before the smaller model.
    """
    found = [] if sizes is None else [_storage(sizes), _timeout(sizes)]
    kept = current or {}
    found = [_larger(each, kept.get(each.name, "")) for each in found]
    if ranks > 1:
        found.append(_shared_memory(ranks))
    found.append(Variable(STREAMING, "true", "answers are streamed"))
    own = settings.deployment.environment
    return [
        Variable(each.name, own[each.name], "the profile's") if each.name in own else each
        for each in found
    ]


def outlook(settings: Settings) -> list[str]:
    """Returns lines about the variables of a deployment whose engine is not built yet."""
    try:
        sizes, ranks = _expected(settings)
    except FalconryError:
        sizes, ranks = None, 0
    lines = [str(each) for each in worked_out(settings, sizes, ranks)]
    if sizes is None:
        lines.append(f"variable {STORAGE}, {TIMEOUT}: by the sizes of image and artifact")
    return lines


def _storage(sizes: Sizes) -> Variable:
    limits = load_limits().instance
    image = sizes.image * (1 + limits.image_unpacked_factor)
    needed = limits.system_storage_gb + (image + sizes.artifact + sizes.unpacked) / _GB
    size = max(_round_up(needed * limits.storage_margin), limits.least_storage_gb)
    return Variable(STORAGE, str(size), str(sizes))


def _timeout(sizes: Sizes) -> Variable:
    limits, image = load_limits().instance, load_limits().image
    moved = sizes.artifact + 2 * sizes.unpacked
    needed = image.pull_minutes + limits.start_minutes
    needed += math.ceil(moved / limits.artifact_bytes_per_second / 60)
    minutes = max(_round_up(needed), limits.least_timeout_minutes)
    return Variable(TIMEOUT, str(min(minutes, limits.most_timeout_minutes)), str(sizes))


def _shared_memory(ranks: int) -> Variable:
    limits = load_limits().instance
    size = max(ranks * limits.shm_gib_per_gpu, limits.least_shm_gib)
    return Variable(SHM, f"{size}g", f"{ranks} GPUs share the engine")


def _larger(variable: Variable, current: str) -> Variable:
    if current.isdecimal() and int(current) > int(variable.value):
        return Variable(variable.name, current, "the deployment's; it is not lowered")
    return variable


def _round_up(number: float) -> int:
    return math.ceil(number / _STEP) * _STEP


def _expected(settings: Settings) -> tuple[Sizes | None, int]:
    """Estimates the sizes, and counts the GPUs that share the engine."""
    if settings.engine.builder == "tensorrt_llm":
        return _expected_on_gpus(settings)
    from falconry.checkpoint.reader import read_checkpoint
    from falconry.checkpoint.source import CheckpointSource
    from falconry.engine.openvino.serving import estimate
    from falconry.engine.spec import engine_spec, load_recipe

    source = CheckpointSource.parse(settings.checkpoint) if settings.checkpoint else None
    directory = source.at_hand() if source else None
    if directory is None:
        return None, 0
    spec = engine_spec(read_checkpoint(directory), load_recipe(settings.recipe))
    return _estimated(settings, _CPU_IMAGE_BYTES, estimate(spec).weights), 0


def _expected_on_gpus(settings: Settings) -> tuple[Sizes | None, int]:
    from falconry.engine.tensorrt_llm.memory import engine_bytes
    from falconry.engine.tensorrt_llm.recipe import load_gpu_recipe
    from falconry.engine.tensorrt_llm.spec import GpuEngineSpec, chosen_source, model_facts
    from falconry.engine.toolchain import load_toolchains

    recipe = load_gpu_recipe(settings.recipe)
    ranks = recipe.parallelism.world_size
    facts = model_facts(chosen_source(settings.checkpoint, recipe.model), recipe.model)
    if facts is None:
        return None, ranks
    row = load_toolchains().row(settings.engine.toolchain)
    # The shape decides no size.
    spec = GpuEngineSpec.of(facts, recipe, row, load_shapes()[0], settings.engine.image)
    return _estimated(settings, int(row.listed_gb * _GB), engine_bytes(spec)), ranks


def _estimated(settings: Settings, image: int, engine: int) -> Sizes:
    if settings.image.reference:
        image = load_limits().image.compressed_bytes
    return Sizes(image, engine, engine, estimated=True)
