"""Times make targets with nothing to do, beside an empty Invoke task, doit and DVC."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.bench.processes import BenchError, Command, alternate, run, seconds
from scripts.bench.results import Result, TimesAsLong
from scripts.bench.workplace import Workplace


@dataclass(frozen=True, slots=True)
class Idle:
    """A target that has nothing to do.

    Attributes:
        what: what is deployed; empty if nothing is.
    """

    target: str
    settings: str
    goal: TimesAsLong
    what: str = ""


# 0.25 s and 0.7 s on a machine where the empty task took 0.10 s.
_ENGINE = Idle("engine", "image.run=process", TimesAsLong(2.5))
_PROCESS = Idle("deploy", "image.run=process", TimesAsLong(7), "a process image")
CONTAINER = Idle("deploy", "image.run=container", TimesAsLong(7), "a container")

_EMPTY = {
    "Makefile": "empty:\n\t@{python} -m invoke empty\n",
    "tasks.py": "from invoke import task\n\n\n@task\ndef empty(c):\n    pass\n",
}


# The stages until the artifact: what each needs and what it makes, in the copy.
_STAGES = {
    "engine": (["engine", "falconry"], "build/store"),
    "repository": (["build/store", "docker", "model_repository"], "build/local/repository"),
    "artifact": (["build/local/repository"], "build/local/artifact"),
}
# doit reads the same description of the stages as DVC.
_DODO = """\
import json
from pathlib import Path


def task_stages():
    for name, stage in json.loads(Path("dvc.yaml").read_text())["stages"].items():
        found = [each for source in stage["deps"] for each in Path(source).rglob("*")]
        files = [str(each) for each in found if each.is_file() and each.suffix != ".pyc"]
        yield {"basename": name, "actions": [stage["cmd"]], "file_dep": files}
"""


def measure_nothing_to_do(workplace: Workplace, rounds: int) -> Iterator[Result]:
    """A result for `make engine`, `make artifact` and `make deploy`, each done once before.

    `make deploy` calls the cloud, so a local_oci of the copy runs meanwhile. With a container it
    calls a registry as well; this one is left out if no Docker engine listens. `doit` and
    `dvc repro` run the stages of `make artifact` by the same commands, and look at the same files.
    """
    from falconry.image.output import engine_listens

    empty = workplace.directory / "empty"
    empty.mkdir(parents=True, exist_ok=True)
    for name, text in _EMPTY.items():
        (empty / name).write_text(text.format(python=workplace.python), encoding="utf-8")
    workplace.copy_project()
    for idle in (_ENGINE, _PROCESS, *([CONTAINER] if engine_listens(os.environ) else [])):
        try:
            yield _measure(workplace, empty, idle, rounds)
        finally:
            run(make_command(workplace, "down", idle), workplace.copy)
    yield from _measure_artifact(workplace, rounds)


def _measure_artifact(workplace: Workplace, rounds: int) -> Iterator[Result]:
    """`make artifact` beside each of the other tools that skip what is up to date."""
    what = "make artifact, nothing to do"
    tools = workplace.peer("pipelines") / "bin"
    commands: dict[str, Command] = {
        "make artifact": make_command(workplace, "artifact", _PROCESS),
        "doit": [tools / "doit", "artifact"],
        "dvc repro": [tools / "dvc", "repro", "artifact"],
    }
    _describe_stages(workplace)
    run([tools / "dvc", "init", "--no-scm", "--force"], workplace.copy)
    # The first run of doit does not know yet which files the stages make for each other.
    for command in (*commands.values(), *commands.values()):
        run(command, workplace.copy)

    def timed(command: Command) -> Callable[[], float]:
        return lambda: seconds(command, workplace.copy)

    samples = alternate(what, rounds, {name: timed(each) for name, each in commands.items()})
    ours = {"make artifact": samples.pop("make artifact")}
    for tool, taken in samples.items():
        yield Result(f"{what}, beside {tool.split()[0]}", "s", ours, {tool: taken})


def _describe_stages(workplace: Workplace) -> None:
    """Writes the stages into the copy, as DVC and doit read them."""
    checkpoint = str(_checkpoint(workplace))
    stages = {
        name: {
            "cmd": shlex.join(make_command(workplace, name, _PROCESS)),
            "deps": [*sources, checkpoint] if name == "engine" else sources,
            # Left where they are, as our own.
            "outs": [{output: {"cache": False, "persist": True}}],
        }
        for name, (sources, output) in _STAGES.items()
    }
    # DVC's YAML may be JSON.
    (workplace.copy / "dvc.yaml").write_text(json.dumps({"stages": stages}), encoding="utf-8")
    (workplace.copy / "dodo.py").write_text(_DODO, encoding="utf-8")
    (workplace.copy / ".dvcignore").write_text("__pycache__\n", encoding="utf-8")


def _measure(workplace: Workplace, empty: Path, idle: Idle, rounds: int) -> Result:
    what = ", ".join(filter(None, (f"make {idle.target}", "nothing to do", idle.what)))
    command = make_command(workplace, idle.target, idle)
    try:
        run(command, workplace.copy)
        samples = alternate(
            what,
            rounds,
            {
                f"make {idle.target}": lambda: seconds(command, workplace.copy),
                "empty task": lambda: seconds(["make", "empty"], empty),
            },
        )
    except BenchError as error:
        return Result(what, "s", target=idle.goal, problem=str(error))
    peers = {"empty task": samples.pop("empty task")}
    return Result(what, "s", samples, peers, idle.goal)


def make_command(workplace: Workplace, target: str, idle: Idle) -> list[str]:
    """A make command with the local profile and the tiny Falcon, whatever the user's profile says.

    Args:
        workplace: where it runs.
        target: of make.
        idle: what the image is.
    """
    checkpoint = _checkpoint(workplace)
    words = ["make", target, "PROFILE=local", "RECIPE=cpu", f"CHECKPOINT={checkpoint}"]
    return [*words, f"SET={idle.settings}"]


def _checkpoint(workplace: Workplace) -> Path:
    return workplace.root / "checkpoints" / "tiny-falcon"
