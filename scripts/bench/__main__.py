"""Measures Falconry against its peers on this machine: `python -m scripts.bench`.

Every target is a ratio of two times taken in the same run, or a limit of memory. The table goes to
standard output, every sample to build/bench/results.json, and plots to build/bench/plots. The exit
status is 1 when a target is missed, 2 when something could not be run. Checkpoints and peers stay
in build/bench for next time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scripts.bench.engine_build import measure_engine_builds
from scripts.bench.falcon3 import measure_falcon3
from scripts.bench.generation import measure_generation
from scripts.bench.image import measure_image
from scripts.bench.mirror import measure_mirror
from scripts.bench.nothing_to_do import measure_nothing_to_do
from scripts.bench.processes import BenchError, cpu_name, run
from scripts.bench.results import Result, table
from scripts.bench.served import measure_served_model
from scripts.bench.upload import measure_upload
from scripts.bench.workplace import Workplace

Measure = Callable[[Workplace, int], Iterator[Result]]

# What is measured, with the rounds of a full run and of a quick one.
MEASUREMENTS: dict[str, tuple[Measure, int, int]] = {
    "engine": (measure_engine_builds, 5, 1),
    "generation": (measure_generation, 3, 1),
    "falcon3": (measure_falcon3, 5, 1),
    "served": (measure_served_model, 3, 1),
    "noop": (measure_nothing_to_do, 10, 3),
    "image": (measure_image, 1, 1),
    "mirror": (measure_mirror, 5, 1),
    "upload": (measure_upload, 5, 1),
}
# The upload writes and deflates 30 GB, the mirror writes 24 GB, and Falcon3's exports take long:
# they run only when named.
ONLY_WHEN_NAMED = {"falcon3", "mirror", "upload"}

# Instructions that decide how fast a CPU multiplies matrices.
_INSTRUCTIONS = {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"}


def main() -> int:
    """Runs the selected measurements and returns the exit status."""
    arguments = _arguments()
    workplace = Workplace(Path(__file__).resolve().parents[2])
    before = _machine()
    results: list[Result] = []
    chosen = [arguments.only] if arguments.only else MEASUREMENTS.keys() - ONLY_WHEN_NAMED
    for name in sorted(chosen, key=list(MEASUREMENTS).index):
        measure, rounds, quick_rounds = MEASUREMENTS[name]
        results += measure(workplace, quick_rounds if arguments.quick else rounds)
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": arguments.quick,
        "machine": before,
        "versions": {"python": {"python": sys.version.split()[0]}, **workplace.versions()},
        "results": [result.as_json() for result in results],
    }
    output = workplace.directory / "results.json"
    output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"\n{before['cpu']}, {before['cores']} cores, load {before['load_average']:.1f}\n")
    page = _draw(workplace, output)
    print(f"{table(results)}\n\nEvery sample: {output}\nPlots: {page}")
    return int(any(result.reached is False for result in results))


def _draw(workplace: Workplace, results: Path) -> Path:
    """Draws the results; gives the page."""
    directory = workplace.directory / "plots"
    python = workplace.peer("pictures") / "bin" / "python"
    run([python, Path(__file__).with_name("draw_results.py"), results, directory], workplace.root)
    return directory / "index.html"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", choices=MEASUREMENTS, help="leave the other measurements out")
    parser.add_argument("--quick", action="store_true", help="few repetitions: does it run at all?")
    return parser.parse_args()


def _machine() -> dict[str, Any]:
    """The CPU, its memory, the system, and how busy it was."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    flags = re.search(r"^flags\s*: (.*)$", cpu, re.MULTILINE)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "instructions": sorted(_INSTRUCTIONS.intersection(flags[1].split() if flags else [])),
        "memory_gib": round(memory / 2**30, 1),
        "system": platform.platform(),
        "load_average": os.getloadavg()[0],
    }


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BenchError, KeyboardInterrupt) as error:
        print(str(error) or "interrupted", file=sys.stderr)
        sys.exit(2)
