"""How fast engines are built, against optimum-cli, and how much memory that takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from falconry.files import remove
from scripts.bench.checkpoints import falcon3_checkpoint, large_checkpoint, small_checkpoint
from scripts.bench.processes import Command, alternate, peak_anonymous_mib, run, seconds
from scripts.bench.results import LessThan, Point, Result, TimesBetter, Unit
from scripts.bench.workplace import Workplace

FASTER_THAN_OPTIMUM = TimesBetter(10)
ANONYMOUS_MEMORY = LessThan(256)

# Our recipe and optimum's --weight-format for the same precision of the weights.
_PRECISIONS = {"float32": ("cpu-f32", "fp32"), "int8": ("cpu", "int8")}
_MEMORY_RECIPES = ("cpu", "cpu-bf16")


def measure_engine_builds(workplace: Workplace, rounds: int) -> Iterator[Result]:
    """Each precision's build and stage, then the memory of each recipe's stage.

    The build is what optimum-cli does: from the checkpoint to the engine's files, as a process from
    start to end. The stage is `make engine` with nothing built or remembered yet. It also computes
    the digests of checkpoint and engine and flushes the engine to the disk.

    Raises:
        BenchError: a build fails.
    """
    checkpoint = small_checkpoint(workplace)
    workplace.copy_project()
    for precision, (recipe, weight_format) in _PRECISIONS.items():
        contestants = {
            "builder": builder_time(workplace, checkpoint, recipe),
            "engine stage": _stage(workplace, checkpoint, recipe),
            "optimum-cli": optimum_time(workplace, checkpoint, weight_format),
        }
        samples = alternate(f"engine build, {precision}", rounds, contestants)
        builder, stage, peers = ({name: samples[name]} for name in contestants)
        yield Result(f"engine build, {precision}", "s", builder, peers, FASTER_THAN_OPTIMUM)
        yield Result(f"engine stage, {precision}", "s", stage, peers)
    large = large_checkpoint(workplace)
    for size, source in (("136 M", checkpoint), ("2 GiB", large)):
        for recipe in _MEMORY_RECIPES:
            yield _memory(workplace, source, recipe, size)
    workplace.forget_builds()
    for source in (checkpoint, falcon3_checkpoint(workplace), large):
        yield from _by_size(workplace, source)


def _by_size(workplace: Workplace, checkpoint: Path) -> Iterator[Result]:
    """Time and memory of one build in int8, as points of a curve by the checkpoint's size."""
    size = sum(each.stat().st_size for each in checkpoint.glob("*.safetensors")) >> 20
    output = workplace.directory / "engines" / "timed"
    times, peaks = {}, {}
    for name, command in (
        ("builder", _builder_command(workplace, checkpoint, "cpu", output)),
        ("optimum-cli", _optimum_command(workplace, checkpoint, "int8", output)),
    ):
        print(f"{name}, {size} MiB", flush=True)
        remove(output)
        times[name] = [seconds(command, workplace.root)]
        remove(output)
        peaks[name] = [peak_anonymous_mib(command, workplace.root)]
    remove(output)
    taken: dict[str, list[float]]
    unit: Unit
    for what, unit, taken in (("build", "s", times), ("memory of a build", "MiB", peaks)):
        point = Point(f"{what}, int8", "MiB of weights", size)
        ours, peers = ({name: taken[name]} for name in ("builder", "optimum-cli"))
        yield Result(f"{what}, {size} MiB", unit, ours, peers, point=point)


def runnable_recipes() -> tuple[str, ...]:
    """The recipes whose arithmetic this machine's CPU has, as OpenVINO sees it."""
    from openvino import Core

    capabilities = Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("cpu", "cpu-bf16") if "BF16" in capabilities else ("cpu",)


def build_engine(workplace: Workplace, checkpoint: Path, recipe: str) -> Path:
    """A fresh engine."""
    output = workplace.directory / "engines" / recipe
    return _made(workplace, _builder_command(workplace, checkpoint, recipe, output), output)


def export_with_optimum(workplace: Workplace, checkpoint: Path, weight_format: str) -> Path:
    """A fresh OpenVINO model by optimum-cli."""
    output = workplace.directory / "engines" / f"optimum-{weight_format}"
    return _made(workplace, _optimum_command(workplace, checkpoint, weight_format, output), output)


def builder_time(workplace: Workplace, checkpoint: Path, recipe: str) -> Callable[[], float]:
    """Times our builder, with nothing left before and after."""
    return _timed(workplace, _builder_command, checkpoint, recipe)


def optimum_time(workplace: Workplace, checkpoint: Path, weight_format: str) -> Callable[[], float]:
    """Times optimum-cli, with nothing left before and after."""
    return _timed(workplace, _optimum_command, checkpoint, weight_format)


def _made(workplace: Workplace, command: Command, output: Path) -> Path:
    print(f"making {output}", flush=True)
    remove(output)
    run(command, workplace.root)
    return output


def _builder_command(workplace: Workplace, checkpoint: Path, recipe: str, output: Path) -> Command:
    return [workplace.python, "-m", "scripts.bench.build_alone", checkpoint, recipe, output]


def _stage(workplace: Workplace, checkpoint: Path, recipe: str) -> Callable[[], float]:
    def timed() -> float:
        workplace.forget_builds()
        return seconds(_stage_command(workplace, checkpoint, recipe), workplace.copy)

    return timed


def _stage_command(workplace: Workplace, checkpoint: Path, recipe: str) -> Command:
    selection = [f"--checkpoint={checkpoint}", f"--recipe={recipe}"]
    return [workplace.python, "-m", "invoke", "engine", *selection]


def _optimum_command(
    workplace: Workplace, checkpoint: Path, weight_format: str, output: Path
) -> Command:
    return [
        *(workplace.peer("optimum") / "bin" / "optimum-cli", "export", "openvino"),
        *("--model", checkpoint, "--task", "text-generation-with-past"),
        *("--weight-format", weight_format),
        output,
    ]


def _timed(
    workplace: Workplace,
    command_for: Callable[[Workplace, Path, str, Path], Command],
    checkpoint: Path,
    precision: str,
) -> Callable[[], float]:
    """Times a command that makes an engine, with nothing left before and after."""
    output = workplace.directory / "engines" / "timed"
    command = command_for(workplace, checkpoint, precision, output)

    def timed() -> float:
        remove(output)
        taken = seconds(command, workplace.root)
        remove(output)
        return taken

    return timed


def _memory(workplace: Workplace, checkpoint: Path, recipe: str, size: str) -> Result:
    what = f"memory of a build, {size}, {recipe}"
    print(what, flush=True)
    workplace.forget_builds()
    peak = peak_anonymous_mib(_stage_command(workplace, checkpoint, recipe), workplace.copy)
    return Result(what, "MiB", {"engine stage": [peak]}, target=ANONYMOUS_MEMORY)
