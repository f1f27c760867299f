"""Shapes for the engine that a profile asks for, from its checkpoint's facts and its recipe."""

from __future__ import annotations

from dataclasses import dataclass

from falconry.engine.manifest import GpuEngine
from falconry.errors import CheckpointError
from falconry.oci_facts import find_shape, load_cpu_shapes, load_shapes
from falconry.settings import Settings
from falconry.shapes.candidates import Candidate, ranked
from falconry.shapes.prices import Prices

_NOT_HERE = "name a checkpoint that is here: CHECKPOINT=/path/to/falcon"


@dataclass(frozen=True, slots=True)
class Advice:
    """Shapes, the best first.

    Attributes:
        engine: a line on what is to be served.
        concurrency: longest requests at a time, as asked for.
        request_tokens: of a longest request, prompt and answer together.
        candidates: all shapes, those that hold the engine first.
        currency: of the prices; None without prices.
        estimated: what of the numbers is estimated.
    """

    engine: str
    concurrency: int
    request_tokens: int
    candidates: tuple[Candidate, ...]
    currency: str | None
    estimated: tuple[str, ...]

    def facts(self) -> dict[str, object]:
        """Everything, for programs."""
        return {
            "engine": self.engine,
            "concurrency": self.concurrency,
            "request_tokens": self.request_tokens,
            "currency": self.currency,
            "estimated": list(self.estimated),
            "shapes": [candidate.facts() for candidate in self.candidates],
        }


def advise(
    settings: Settings,
    concurrency: int,
    prices: Prices | None = None,
    built: GpuEngine | None = None,
) -> Advice:
    """Ranks all shapes for a profile's engine. Nothing is fetched and nothing is asked.

    Args:
        settings: the profile.
        concurrency: longest requests that shall be answered at a time.
        prices: where they are known.
        built: the profile's engine for GPUs, where it stands already.

    Raises:
        SettingsError: the recipe, the toolchain or the concurrency makes no sense.
        CheckpointError: nothing is known of the checkpoint, or it is damaged.
    """
    if settings.engine.builder == "tensorrt_llm":
        return _for_gpus(settings, concurrency, prices, built)
    return _for_cpus(settings, concurrency, prices)


def _for_gpus(
    settings: Settings, concurrency: int, prices: Prices | None, built: GpuEngine | None
) -> Advice:
    from falconry.engine.tensorrt_llm.model import chosen_source, model_facts
    from falconry.engine.tensorrt_llm.recipe import load_gpu_recipe
    from falconry.engine.tensorrt_llm.spec import GpuEngineSpec
    from falconry.engine.toolchain import load_toolchains
    from falconry.shapes.gpu import gpu_candidates

    recipe = load_gpu_recipe(settings.recipe)
    source = chosen_source(settings.checkpoint, recipe.model)
    facts = model_facts(source, recipe.model)
    if facts is None:
        raise CheckpointError("its config.json is not known", remedy=_NOT_HERE)
    toolchain = load_toolchains().row(settings.engine.toolchain)
    shapes = load_shapes()
    spec = GpuEngineSpec.of(facts, recipe, toolchain, shapes[0], settings.engine.image)
    return Advice(
        engine=f"{source.name if source else recipe.model.hub}: {recipe.description}",
        concurrency=concurrency,
        request_tokens=recipe.limits.max_seq_len,
        candidates=ranked(gpu_candidates(spec, shapes, concurrency, built, prices)),
        currency=prices.currency if prices else None,
        estimated=("activations", "the runtime's memory", "what a GPU gives of its memory"),
    )


def _for_cpus(settings: Settings, concurrency: int, prices: Prices | None) -> Advice:
    from falconry.checkpoint.reader import read_checkpoint
    from falconry.checkpoint.source import CheckpointSource
    from falconry.engine.recipe import load_recipe
    from falconry.engine.spec import check, engine_spec
    from falconry.shapes.cpu import cpu_candidates

    recipe = load_recipe(settings.recipe)
    if settings.checkpoint is None:
        raise CheckpointError("no checkpoint is named", remedy=_NOT_HERE)
    source = CheckpointSource.parse(settings.checkpoint)
    directory = source.at_hand()
    if directory is None:
        raise CheckpointError("it is not here yet", where=settings.checkpoint, remedy=_NOT_HERE)
    checkpoint = read_checkpoint(directory)
    spec = engine_spec(checkpoint, recipe)
    check(spec)
    flexible = find_shape(settings.deployment.shape)
    ocpus = settings.deployment.ocpus if flexible else None
    candidates = cpu_candidates(spec, load_cpu_shapes(), concurrency, ocpus or 1, prices)
    return Advice(
        engine=f"{source.name}: {recipe.description}",
        concurrency=concurrency,
        request_tokens=spec.limits.max_seq_len,
        candidates=ranked(candidates),
        currency=prices.currency if prices else None,
        estimated=("activations", "the server's processes"),
    )
