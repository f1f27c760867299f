"""How large the CPU server image is, layer by layer."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from scripts.bench.nothing_to_do import CONTAINER, make_command
from scripts.bench.processes import BenchError, run
from scripts.bench.results import Result
from scripts.bench.workplace import Workplace

_WHAT = "the CPU server image"
_SMALLEST_MB = 1.0
# What builders of Docker write before an instruction.
_SHELL = re.compile(r"^/bin/sh -c (?:#\(nop\)\s+)?|^RUN (?:\|\d+ .*?)?/bin/sh -c ")
# What it copied is named by a hash alone.
_COPIED = re.compile(r"\b(?:dir|file|multi):[0-9a-f]+ in ")
_LONGEST = 56


def measure_image(workplace: Workplace, rounds: int) -> Iterator[Result]:
    """A result for each layer of 1 MB or more, unpacked; `make image` builds it.

    It is left out if no Docker engine listens. Its size does not change, so it is measured once.
    """
    from falconry.image.output import engine_listens

    if not engine_listens(os.environ):
        print(f"{_WHAT} is left out: no Docker engine listens", flush=True)
        return
    workplace.copy_project()
    try:
        made = run([*make_command(workplace, "image", CONTAINER), "JSON=1"], workplace.copy)
        # The summary begins with the reference.
        history = _history(workplace.copy, json.loads(made)["summary"].split()[0])
    except BenchError as error:
        yield Result(_WHAT, "MB", problem=str(error))
        return
    finally:
        run(make_command(workplace, "down", CONTAINER), workplace.copy)
    yield from layers(history)


def _history(directory: Path, image: str) -> str:
    form = "{{.Size}} {{.CreatedBy}}"
    return run(
        ["docker", "history", "--human=false", "--no-trunc", "--format", form, image], directory
    )


def layers(history: str) -> Iterator[Result]:
    """Reads the layers from `docker history`: the first is the base's.

    Args:
        history: a line a layer, the newest first: its bytes, and the instruction.
    """
    for line in reversed(history.splitlines()):
        size, _, instruction = line.partition(" ")
        megabytes = int(size) / 1e6
        if megabytes >= _SMALLEST_MB:
            words = " ".join(_COPIED.sub("", _SHELL.sub("", instruction)).split())
            what = words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"
            yield Result(what or "the base", "MB", {"unpacked": [megabytes]})
