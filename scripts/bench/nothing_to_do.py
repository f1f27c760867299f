"""Times make targets with nothing to do, against an empty Invoke task."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.bench.processes import BenchError, Command, alternate, run, seconds
from scripts.bench.results import Result, TimesAsLong
from scripts.bench.workplace import Workplace


@dataclass(frozen=True, slots=True)
class _Idle:
    """A target that has nothing to do.

    Attributes:
        what: what is deployed; empty if nothing is.
    """

    target: str
    settings: str
    goal: TimesAsLong
    what: str = ""


# 0.25 s and 0.7 s on a machine where the empty task took 0.10 s.
_ENGINE = _Idle("engine", "image.run=process", TimesAsLong(2.5))
_PROCESS = _Idle("deploy", "image.run=process", TimesAsLong(7), "a process image")
_CONTAINER = _Idle("deploy", "image.run=container", TimesAsLong(7), "a container")

_EMPTY = {
    "Makefile": "empty:\n\t@{python} -m invoke empty\n",
    "tasks.py": "from invoke import task\n\n\n@task\ndef empty(c):\n    pass\n",
}


def measure_nothing_to_do(workplace: Workplace, rounds: int) -> Iterator[Result]:
    """A result for `make engine` and for `make deploy`, each done once before.

    `make deploy` calls the cloud, so a local_oci of the copy runs meanwhile. With a container it
    calls a registry as well; this one is left out if no Docker engine listens.
    """
    from falconry.image.output import engine_listens

    empty = workplace.directory / "empty"
    empty.mkdir(parents=True, exist_ok=True)
    for name, text in _EMPTY.items():
        (empty / name).write_text(text.format(python=workplace.python), encoding="utf-8")
    workplace.copy_project()
    for idle in (_ENGINE, _PROCESS, *([_CONTAINER] if engine_listens(os.environ) else [])):
        try:
            yield _measure(workplace, empty, idle, rounds)
        finally:
            run(_make(workplace, "down", idle.settings), workplace.copy)


def _measure(workplace: Workplace, empty: Path, idle: _Idle, rounds: int) -> Result:
    what = ", ".join(filter(None, (f"make {idle.target}", "nothing to do", idle.what)))
    command = _make(workplace, idle.target, idle.settings)
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


def _make(workplace: Workplace, target: str, settings: str) -> Command:
    """A command with the local profile and the tiny Falcon, whatever the user's profile says."""
    checkpoint = workplace.root / "checkpoints" / "tiny-falcon"
    words = ["make", target, "PROFILE=local", "RECIPE=cpu", f"CHECKPOINT={checkpoint}"]
    return [*words, f"SET={settings}"]
