"""How long make targets take when there is nothing to do, against an Invoke task that is empty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from scripts.bench.processes import BenchError, Command, alternate, run, seconds
from scripts.bench.results import Result, TimesAsLong
from scripts.bench.workplace import Workplace

# 0.25 s and 0.7 s on a machine where the empty task took 0.10 s.
TARGETS = {"engine": TimesAsLong(2.5), "deploy": TimesAsLong(7)}

_EMPTY = {
    "Makefile": "empty:\n\t@{python} -m invoke empty\n",
    "tasks.py": "from invoke import task\n\n\n@task\ndef empty(c):\n    pass\n",
}


def measure_nothing_to_do(workplace: Workplace, rounds: int) -> Iterator[Result]:
    """A result each target of `TARGETS`, each done once before.

    `make deploy` asks the cloud, so local_oci runs meanwhile, one of the copy's own.
    """
    empty = workplace.directory / "empty"
    empty.mkdir(parents=True, exist_ok=True)
    for name, text in _EMPTY.items():
        (empty / name).write_text(text.format(python=workplace.python), encoding="utf-8")
    workplace.copy_project()
    try:
        for target, goal in TARGETS.items():
            yield _measure(workplace, empty, target, goal, rounds)
    finally:
        run(_make(workplace, "down"), workplace.copy)


def _measure(
    workplace: Workplace, empty: Path, target: str, goal: TimesAsLong, rounds: int
) -> Result:
    what = f"make {target}, nothing to do"
    command = _make(workplace, target)
    try:
        run(command, workplace.copy)
        samples = alternate(
            what,
            rounds,
            {
                f"make {target}": lambda: seconds(command, workplace.copy),
                "empty task": lambda: seconds(["make", "empty"], empty),
            },
        )
    except BenchError as error:
        return Result(what, "s", target=goal, problem=str(error))
    peers = {"empty task": samples.pop("empty task")}
    return Result(what, "s", samples, peers, goal)


def _make(workplace: Workplace, target: str) -> Command:
    """The user's profile decides nothing here: the copy has the local one and the tiny Falcon."""
    checkpoint = workplace.root / "checkpoints" / "tiny-falcon"
    return ["make", target, "PROFILE=local", "RECIPE=cpu", f"CHECKPOINT={checkpoint}"]
