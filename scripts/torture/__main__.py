"""Tortures a checkout: `python -m scripts.torture --seed 1 --kills 300`.

It copies this checkout into build/torture, deploys the tiny Falcon there as processes, and disturbs
it at random moments by one seed: processes of a deploy and of a served deployment are killed, two
deploys run at once, disks have 1 to 20 MB, the clock jumps, build/ is deleted half-way, few files
may be open. After each round `make deploy` must lead to the state of an undisturbed run. The report
lists rounds and faults; the exit status is 1 with a fault, 2 when the torture could not run.
"""

from __future__ import annotations

import argparse
import functools
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from falconry.errors import FalconryError, format_error_with_details
from falconry.files import file_lock
from scripts.bench.processes import cpu_name
from scripts.soak.exchange import References
from scripts.torture.checkout import ROOT, Clone
from scripts.torture.rounds import Round, Torture
from scripts.torture.runs import NotRecoveredError, can_mount, remove_tree, unmount

_DIRECTORY = ROOT / "build" / "torture"
_CHECKPOINT = ROOT / "checkpoints" / "tiny-falcon"
# Of the kills; the other kinds of rounds come besides them, each once for this many kills.
_SERVED_SHARE = 0.5
_PAIR_SHARE = 0.1
_KILLS_A_ROUND_OF_OTHERS = 15


def main() -> int:
    """Tortures, prints the report, and returns the exit status."""
    options = _options()
    with file_lock(ROOT / "build" / "torture.lock", _tell_holder):
        return _torture(options)


def _tell_holder(holder: str) -> None:
    print(f"waiting for {holder}", flush=True)


def _torture(options: argparse.Namespace) -> int:
    # So that what runs is taken down, and a small disk taken away, before this ends.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    chance = Random(options.seed)
    checkout = _DIRECTORY / "falconry"
    unmount(checkout / "build")  # of a run that was killed
    remove_tree(_DIRECTORY)
    _DIRECTORY.mkdir(parents=True)
    clone = Clone.make(checkout)
    os.chdir(clone.directory)  # paths in its profile are relative
    torture = Torture(clone, References(_CHECKPOINT), chance)
    rounds: list[Round] = []
    begun = time.monotonic()
    try:
        torture.prepare()
        print(torture.describe(), flush=True)
        plan = list(enumerate(_plan(torture, options, chance), 1))
        chosen = [each for each in plan if options.rounds is None or each[0] in options.rounds]
        print(f"{len(chosen)} of {len(plan)} rounds", flush=True)
        for number, (name, work) in chosen:
            if time.monotonic() - begun > options.minutes * 60:
                print(f"stopped after {options.minutes:g} minutes")
                break
            chance.seed(f"{options.seed}, round {number}")  # so that any can be run alone
            result = torture.play(name, work)
            rounds.append(result)
            about = ", ".join(filter(None, (result.victim, result.moment)))
            fault = f"  FAULT {result.fault}" if result.fault else ""
            print(
                f"{number:4} {result.seconds:5.1f} s  {result.kind}: {about}{fault}",
                flush=True,
            )
    finally:
        torture.stop()
        print(report(rounds, options.seed), flush=True)
    return int(any(each.fault for each in rounds))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.torture",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=1, help="of all that is random")
    parser.add_argument("--kills", type=int, default=300, help="how many processes are killed")
    parser.add_argument("--rounds", type=numbers, help="only these, such as 17,25,329-380")
    parser.add_argument("--minutes", type=float, default=600, help="stop after this long")
    return parser.parse_args()


def numbers(text: str) -> frozenset[int]:
    """Reads numbers and ranges of them, such as `17,25,329-380`."""
    pairs = (part.partition("-") for part in text.split(","))
    return frozenset(
        number
        for first, dash, last in pairs
        for number in range(int(first), int(last if dash else first) + 1)
    )


def _plan(
    torture: Torture, options: argparse.Namespace, chance: Random
) -> list[tuple[str, Callable[[Round], None]]]:
    """All rounds, in an order that the seed decides."""
    served = round(options.kills * _SERVED_SHARE)
    pairs = round(options.kills * _PAIR_SHARE)
    others = max(1, options.kills // _KILLS_A_ROUND_OF_OTHERS)
    rounds: list[tuple[str, Callable[[Round], None]]] = [
        *[("a process killed under a served load", torture.killed_server)] * served,
        *[("two deploys at once, one process killed", torture.two_deploys)] * pairs,
        *[("a process killed during a deploy", torture.killed_deploy)]
        * (options.kills - served - pairs),
        *[("build/ deleted half-way", torture.deleted_build)] * others,
        *[("few open files", torture.few_files)] * others,
    ]
    if can_mount():
        rounds += [("a small disk", torture.small_disk)] * others
    else:
        print("no small disks: mounting one needs root")
    if library := _movable_clock():
        rounds += [
            ("a clock that jumps", functools.partial(torture.jumping_clock, library))
        ] * others
    else:
        print("no jumping clocks: their library needs a C compiler (cc)")
    chance.shuffle(rounds)
    return rounds


def _movable_clock() -> Path | None:
    """The library that moves the clock, compiled for this machine; None without a compiler."""
    compiler, library = shutil.which("cc"), _DIRECTORY / "clock.so"
    if compiler is None:
        return None
    source = Path(__file__).with_name("clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def report(rounds: Sequence[Round], seed: int) -> str:
    """The figures, as docs/reliability.md has them."""
    lines = [
        "",
        f"{datetime.now(UTC):%d %B %Y}, seed {seed}, {os.cpu_count()} cores of {cpu_name()},"
        f" Linux {platform.release()}",
        "",
        "| round | times | recovered by a deploy | after `make down` | median | slowest | faults |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in sorted({each.kind for each in rounds}):
        these = [each for each in rounds if each.kind == kind]
        good = [each for each in these if not each.fault]
        times = [each.seconds for each in these]
        lines.append(
            f"| {kind} | {len(these)} | {sum(not each.down for each in good)} |"
            f" {sum(each.down for each in good)} | {statistics.median(times):.1f} s |"
            f" {max(times):.1f} s | {len(these) - len(good)} |"
        )
    outages = sorted(each.outage_s for each in rounds if each.outage_s is not None)
    if outages:
        lines += [
            "",
            f"failing answers under load: median {statistics.median(outages):.1f} s, longest"
            f" {outages[-1]:.1f} s; by status:"
            f" {dict(sum((Counter(each.failures) for each in rounds), Counter()))}",
        ]
    victims = Counter(each.victim for each in rounds if each.victim.startswith("SIG"))
    lines += ["", "signals: " + ", ".join(f"{name} {count}" for name, count in victims.items())]
    stages = Counter(each.moment.partition(",")[0] for each in rounds if "deploy" in each.kind)
    lines += ["stages: " + ", ".join(f"{name} {count}" for name, count in stages.items())]
    lines += [
        f"FAULT {each.kind}: {each.victim} {each.moment}: {each.fault}"
        for each in rounds
        if each.fault
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FalconryError as error:
        print(format_error_with_details(error), file=sys.stderr)
        sys.exit(2)
    except (NotRecoveredError, KeyboardInterrupt) as error:
        print(str(error) or "interrupted", file=sys.stderr)
        sys.exit(2)
