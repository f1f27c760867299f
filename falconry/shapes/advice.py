"""Ranked shapes for a profile's engine, and their table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from falconry.checkpoint.reader import read_checkpoint
from falconry.checkpoint.source import CheckpointSource
from falconry.engine.manifest import GpuEngine
from falconry.engine.spec import GIB, check, engine_spec, load_recipe
from falconry.engine.tensorrt_llm.recipe import load_gpu_recipe
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec, chosen_source, model_facts
from falconry.engine.toolchain import load_toolchains
from falconry.errors import CheckpointError
from falconry.oci_facts import find_shape, load_cpu_shapes, load_shapes
from falconry.settings import Settings
from falconry.shapes.candidates import Candidate, cpu_candidates, gpu_candidates, ranked
from falconry.shapes.prices import Prices

_NOT_HERE = "name a checkpoint that is here: CHECKPOINT=/path/to/falcon"


@dataclass(frozen=True, slots=True)
class Advice:
    """Shapes, the best first.

    Attributes:
        concurrency: longest requests at a time, as requested.
        request_tokens: of a longest request, prompt and answer together.
        candidates: all shapes, those that hold the engine first.
        currency: of the prices; None without prices.
        estimated: the numbers that are estimated.
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
    """Ranks all shapes for a profile's engine, without using the network.

    `concurrency` is the number of longest requests at a time, `built` the profile's engine for
    GPUs, if it exists already.
    """
    if settings.engine.builder == "tensorrt_llm":
        return _for_gpus(settings, concurrency, prices, built)
    return _for_cpus(settings, concurrency, prices)


def _for_gpus(
    settings: Settings, concurrency: int, prices: Prices | None, built: GpuEngine | None
) -> Advice:
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


def table(advice: Advice) -> str:
    """The shapes that hold the engine, best first; then the others' problems."""
    requests = "longest request" if advice.concurrency == 1 else "longest requests"
    fitting = [each for each in advice.candidates if each.fits]
    lines = [
        advice.engine,
        f"{advice.concurrency} {requests} of {advice.request_tokens:,} tokens at a time",
        "",
    ]
    if fitting:
        lines += _rows(advice, fitting)
    else:
        lines.append("No shape holds it.")
    lines += _others(advice)
    order = "price" if advice.currency else "memory, for want of prices (PRICES=table.toml)"
    lines += ["", f"Ranked by {order}. Estimated: {', '.join(advice.estimated)}."]
    return "\n".join(lines)


def _rows(advice: Advice, candidates: Sequence[Candidate]) -> Iterator[str]:
    gpus = any(candidate.gpus for candidate in candidates)
    heads = ["shape", "GPUs" if gpus else "size", "needed", "usable", "headroom", "at a time"]
    heads += ["engine"] if gpus else []
    heads += [f"{advice.currency} an hour"] if advice.currency else []
    rows = [heads, *(_row(advice, candidate, gpus) for candidate in candidates)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    for row in rows:
        cells = zip(row, widths, strict=True)
        yield "  ".join(f"{cell:<{width}}" for cell, width in cells).rstrip()


def _row(advice: Advice, candidate: Candidate, gpus: bool) -> list[str]:
    if gpus:
        size = f"{candidate.gpus_used} of {candidate.gpus} {candidate.gpu} (SM {candidate.sm})"
    else:
        size = f"{candidate.ocpus:g} OCPUs, {candidate.memory_gib:g} GiB"
    each = " a GPU" if gpus else ""
    cells = [
        candidate.shape,
        size,
        f"{candidate.needed / GIB:.1f} GiB{each}",
        f"{candidate.usable / GIB:.1f} GiB",
        f"{candidate.headroom / GIB:.1f} GiB",
        str(candidate.at_a_time),
    ]
    cells += [candidate.engine] if gpus else []
    if advice.currency:
        price = candidate.price_hour
        cells.append("not known" if price is None else f"{price:.2f}")
    return cells


def _others(advice: Advice) -> Iterator[str]:
    others = [each for each in advice.candidates if not each.fits]
    if others:
        yield ""
    for each in others:
        remedy = f"; would do with {each.remedy}" if each.remedy else ""
        more = len(each.problems) - 1
        rest = f" (and {more} more)" if more else ""
        yield f"not {each.shape}: {each.problems[0]}{rest}{remedy}"
