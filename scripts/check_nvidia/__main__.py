"""Compares NVIDIA's own code with ours on a CPU, and prints a table.

    .venv/bin/python -m scripts.check_nvidia --source DIRECTORY[@REVISION] [--source ...]

A source is a checkout or a git directory of NVIDIA/TensorRT-LLM or of
triton-inference-server/tensorrtllm_backend. What of it can run on a CPU runs: the parsers of
convert_checkpoint.py, quantize.py and trtllm-build on the command lines of our plans, the converter
on the recorded checkpoints, and the models for Triton on texts. Compiled parts are replaced by
stand-ins (stand_ins.py). Kept toolchains whose release is not among the sources are compared with
the flags recorded for it (tests/data/trtllm_flags), and so are only *read*.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from scripts.bench.processes import BenchError
from scripts.check_nvidia.conversions import (
    Converter,
    calibration_rows,
    code_rows,
    conversion_rows,
    rope_rows,
)
from scripts.check_nvidia.environment import Environment
from scripts.check_nvidia.lines import kept_rows, read_lines, run_lines
from scripts.check_nvidia.served import served_rows
from scripts.check_nvidia.sources import Source, take
from scripts.check_nvidia.table import Row, table

_ROOT = Path(__file__).resolve().parents[2]
_ENVIRONMENT = _ROOT / "build" / "check-nvidia" / "environment"
_USAGE_ERROR = 2


def main(arguments: Sequence[str]) -> int:
    """Checks and prints; returns 0 if all agrees, 1 if not, 2 if the check failed."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.check_nvidia",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--source", action="append", default=[], metavar="DIRECTORY[@REVISION]")
    given = parser.parse_args(arguments).source
    if not given:
        print(
            "check_nvidia: pass --source with a checkout or git directory of NVIDIA/TensorRT-LLM",
            file=sys.stderr,
        )
        return _USAGE_ERROR
    try:
        with tempfile.TemporaryDirectory(prefix="check-nvidia-") as directory:
            rows = _check(given, Path(directory))
    except BenchError as error:
        print(f"check_nvidia: {error}", file=sys.stderr)
        return _USAGE_ERROR
    print(table(rows))
    return 0 if all(row.equal for row in rows) else 1


def _check(given: Sequence[str], directory: Path) -> list[Row]:
    sources = [take(text, directory / f"source-{number}") for number, text in enumerate(given)]
    environment = Environment(_ENVIRONMENT)
    environment.prepare()
    rows = [row for source in sources for row in _rows(source, environment, directory)]
    released = {source.release for source in sources if source.package}
    kept = [row for row in kept_rows() if row.tensorrt_llm not in released]
    return [*rows, *(row for toolchain in kept for row in read_lines(toolchain))]


def _rows(source: Source, environment: Environment, directory: Path) -> list[Row]:
    rows: list[Row] = []
    if source.package:
        print(f"{source.name}: parsers", flush=True)
        for toolchain in kept_rows():
            rows += run_lines(toolchain, source, environment, directory)
        print(f"{source.name}: conversions", flush=True)
        convert = Converter(source, environment, directory)
        rows += conversion_rows(source, convert)
        rows += code_rows(source, convert, directory)
        rows += rope_rows(source, convert, directory)
        rows += calibration_rows(source, environment, directory)
    if source.models:
        print(f"{source.name}: models for Triton", flush=True)
        rows += served_rows(source, environment, directory)
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
