"""Gives every reader and both HTTP surfaces random inputs: `python -m scripts.fuzz`.

Checkpoints, TOML files, Triton configurations and archives are damaged; requests to a served model
and to the local cloud are malformed. Whatever comes must be read, or refused with one sentence: no
traceback, no hang, no wrong answer. A seed decides all inputs. The exit status is 1 when something
failed; its smallest input is printed, and the command that finds it again.
"""

from __future__ import annotations

import argparse
import importlib
import random
import sys
import time
from collections.abc import Sequence

from scripts.fuzz.exploring import Outcome

# Modules of scripts/fuzz, each with a function run(seed, examples) -> Outcome.
PARTS = ("readers", "served", "local_cloud")


def main(arguments: Sequence[str]) -> int:
    """Fuzzes, prints the report, and returns the exit status."""
    options = _options(arguments)
    seed = options.seed or random.SystemRandom().randrange(1, 10**9)
    print(f"seed {seed}, {options.examples:,} inputs a surface", flush=True)
    failed = False
    for part in [options.only] if options.only else PARTS:
        started = time.monotonic()
        outcome = importlib.import_module(f"scripts.fuzz.{part}").run(seed, options.examples)
        print(_report(part, outcome, time.monotonic() - started), flush=True)
        if outcome.failures:
            failed = True
            print(f"  again: make fuzz ONLY={part} SEED={seed} EXAMPLES={options.examples}")
    return int(failed)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=0, help="decides all inputs; 0 draws one")
    parser.add_argument(
        "--examples", type=int, default=10_000, help="how many inputs each surface gets"
    )
    parser.add_argument("--only", default="", choices=("", *PARTS), help="a part alone")
    return parser.parse_args(arguments)


def _report(part: str, outcome: Outcome, seconds: float) -> str:
    inputs = sum(outcome.inputs.values())
    lines = [f"{part}: {inputs:,} inputs in {seconds:.0f} s, {len(outcome.failures)} failures"]
    lines += [f"  {surface:<40}{count:>9,}" for surface, count in outcome.inputs.items()]
    for failure in outcome.failures:
        lines += [f"  {failure.surface}: {failure.problem}", f"    input: {failure.example}"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
