"""Rounds of the torture: each disturbs the checkout once, and then looks whether it recovers.

A round ends with `make deploy`, which must lead to the state of an undisturbed run: the same files,
the right answer, the same processes. What a deploy cannot mend, such as a stopped local cloud, it
must say in one sentence; then `make down` and `make deploy` must mend it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from falconry.errors import FalconryError, format_error
from scripts.bench.processes import with_descendants
from scripts.soak.exchange import References
from scripts.torture.checkout import Clone, Result
from scripts.torture.load import Load
from scripts.torture.runs import (
    NotRecoveredError,
    Run,
    State,
    mount,
    remove_tree,
    role_of,
    small_disk,
    tail,
)

PROMPT = "Explain Cloud Computing to a school kid"
_END_S = 20.0
_RECOVERY_S = 60.0
_STEADY_S = 1.0
_OTHER = "SET=deployment.memory_gib=32"
# From where a deploy starts.
STARTS = ("nothing", "engine", "another deployment", "deployed")
_JUMPS_S = (-86_400, -7_200, -600, 600, 7_200, 86_400, 400 * 86_400)
_NO_SECONDS = struct.pack("q", 0)
_CLIENT_SIGNALS = ("SIGKILL", "SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
_SERVER_SIGNALS = ("SIGKILL", "SIGKILL", "SIGTERM", "SIGSTOP")
# Nothing restarts the local cloud itself but the next deploy.
_CLOUD = "local_oci serve"


@dataclass
class Round:
    """What came of one round.

    Attributes:
        victim: the signal, and the role of the process that got it.
        moment: when, or what else was drawn.
        down: whether `make down` was needed.
        outage_s: how long answers failed, of a served load.
        failures: what clients met meanwhile, by status.
        fault: why it failed; empty otherwise.
    """

    kind: str
    victim: str = ""
    moment: str = ""
    seconds: float = 0.0
    down: bool = False
    outage_s: float | None = None
    failures: Mapping[str, int] = field(default_factory=dict)
    fault: str = ""


class Torture:
    """A checkout that is disturbed again and again, by one seed."""

    def __init__(self, clone: Clone, references: References, chance: Random) -> None:
        self._clone = clone
        self._references = references
        self._chance = chance
        self._undisturbed = State({}, {})
        self._durations: dict[str, float] = {}

    def prepare(self) -> None:
        """Runs undisturbed from every start, for the state to compare with and the times.

        Raises:
            NotRecoveredError: even that fails.
        """
        for start in STARTS:
            self._start_from(start)
            begun = time.monotonic()
            self._must("deploy")
            self._durations[start] = time.monotonic() - begun
        self._undisturbed = self._state()
        self._ask()

    def describe(self) -> str:
        """The undisturbed run: its times and its processes."""
        times = ", ".join(f"{start} {took:.1f} s" for start, took in self._durations.items())
        roles = ", ".join(f"{role} ×{count}" for role, count in self._undisturbed.roles.items())
        return f"undisturbed deploys from: {times}\nprocesses: {roles}"

    def stop(self) -> None:
        """Ends all that runs in the checkout, by force."""
        for _ in range(50):
            if not (commands := self._commands()):
                break
            for pid in commands:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.2)

    # --- the rounds -------------------------------------------------------------------------------

    def killed_deploy(self, result: Round) -> None:
        """Kills one process at a random moment of a deploy."""
        start = self._chance.choice(STARTS)
        self._start_from(start)
        run = Run.start(self._clone, "deploy")
        time.sleep(self._chance.uniform(0, self._durations[start]))
        result.moment = f"{run.stage()}, from {start}"
        result.victim = self._disturb_any()
        run.end()

    def two_deploys(self, result: Round) -> None:
        """Starts two deploys at once and kills a process of one."""
        start = self._chance.choice(STARTS[:3])
        self._start_from(start)
        runs = [Run.start(self._clone, "deploy") for _ in range(2)]
        time.sleep(self._chance.uniform(0, self._durations[start]))
        result.moment = f"{runs[0].stage()}, from {start}"
        result.victim = self._disturb_any()
        for run in runs:
            run.end()

    def killed_server(self, result: Round) -> None:
        """Kills or stops one process of the deployment while clients ask."""
        load = Load(self._clone.directory, self._references, self._chance.randrange(1 << 30))
        with load.running():
            if not load.wait_until_right(_STEADY_S, _RECOVERY_S):
                raise NotRecoveredError(f"no right answer before: {dict(load.seen().failures)}")
            time.sleep(self._chance.uniform(0, 1))
            load.forget()
            begun = time.monotonic()
            result.victim = self._disturb_any()
            time.sleep(_STEADY_S)
            lasting = _CLOUD not in result.victim
            recovered = load.wait_until_right(_STEADY_S, _RECOVERY_S if lasting else 0)
            seen = load.seen()
        result.failures = dict(seen.failures)
        result.outage_s = max(0.0, seen.last_failure - begun)
        if seen.wrong:
            raise NotRecoveredError(seen.wrong[0])
        if lasting and not recovered:
            raise NotRecoveredError(
                f"no right answer for {_RECOVERY_S:.0f} s after {result.victim}: {result.failures}"
            )
        if refused := [status for status in seen.failures if status.startswith("4")]:
            raise NotRecoveredError(
                f"clients got {', '.join(refused)} for {result.victim}, which is no fault of theirs"
            )

    def small_disk(self, result: Round) -> None:
        """Deploys onto a disk of 1 to 20 MB, and again with room."""
        size = self._chance.randint(1, 20)
        result.moment = f"{size} MB"
        self._start_from("nothing")
        build = self._clone.directory / "build"
        with small_disk(build, size):
            Run.start(self._clone, "deploy").end()
            mount("-o", "remount,size=4g", str(build))
            result.down = self._mend()
            self._must("down")

    def jumping_clock(self, library: Path, result: Round) -> None:
        """Moves the clock of all processes of a deploy at a random moment."""
        start = self._chance.choice(STARTS[:2])
        jump = self._chance.choice(_JUMPS_S)
        self._start_from(start)
        clock = self._clone.directory.parent / "clock"
        clock.write_bytes(_NO_SECONDS)
        moving = {"LD_PRELOAD": str(library), "TORTURE_CLOCK": str(clock)}
        run = Run.start(self._clone, "deploy", **moving)
        time.sleep(self._chance.uniform(0, self._durations[start]))
        result.moment = f"by {jump} s, {run.stage()}, from {start}"
        with clock.open("r+b") as file:  # the same file, which the processes have mapped
            file.write(struct.pack("q", jump))
        run.end()

    def deleted_build(self, result: Round) -> None:
        """Deletes build/ at a random moment of a deploy."""
        start = self._chance.choice(STARTS)
        self._start_from(start)
        run = Run.start(self._clone, "deploy")
        time.sleep(self._chance.uniform(0, self._durations[start]))
        result.moment = f"{run.stage()}, from {start}"
        remove_tree(self._clone.directory / "build")
        run.end()
        self._must("down")
        self._require_nothing_runs()

    def few_files(self, result: Round) -> None:
        """Deploys with a low limit of open files."""
        start, limit = self._chance.choice(STARTS), self._chance.choice((24, 64, 64, 128))
        self._start_from(start)
        result.moment = f"{limit} of them, from {start}"
        Run.start(self._clone, "deploy", before=("prlimit", f"--nofile={limit}")).end()

    def play(self, kind: str, disturb: Callable[[Round], None]) -> Round:
        """Runs a round, mends what it left, and compares with the undisturbed state."""
        result, begun = Round(kind), time.monotonic()
        try:
            disturb(result)
            result.down |= self._mend()
        except NotRecoveredError as error:
            result.fault = str(error)
        except FalconryError as error:
            result.fault = format_error(error)
        if result.fault:
            self._clean()
        result.seconds = time.monotonic() - begun
        return result

    # --- what they share --------------------------------------------------------------------------

    def _start_from(self, start: str) -> None:
        build = self._clone.directory / "build"
        if start in ("nothing", "engine"):
            self._must("down")
            remove_tree(build if start == "nothing" else build / "local")
            if start == "engine" and not (build / "store").exists():
                self._must("engine")
        elif start == "another deployment":
            self._must("deploy", _OTHER)
        else:
            self._must("deploy")

    def _disturb_any(self) -> str:
        """Sends a signal to one process, of a role drawn first; says to which."""
        commands = self._commands()
        by_role: dict[str, list[int]] = {}
        for pid, words in commands.items():
            by_role.setdefault(role_of(words), []).append(pid)
        if not by_role:
            return "nothing ran"
        role = self._chance.choice(sorted(by_role))
        pid = self._chance.choice(sorted(by_role[role]))
        client = role in ("make", "falconry deploy")
        name = self._chance.choice(_CLIENT_SIGNALS if client else _SERVER_SIGNALS)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.Signals[name])
        return f"{name} to {role}"

    def _commands(self) -> dict[int, list[str]]:
        """The command lines of the checkout's processes and of all below them, by process id."""
        found = self._clone.commands()
        below = {pid for each in found for pid in with_descendants(each)} - set(found)
        for pid in below:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                line = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()
                if line:
                    found[pid] = line.split("\0")
        return found

    def _must(self, *words: str) -> Result:
        result = Run.start(self._clone, *words).end()
        if result.status:
            raise NotRecoveredError(f"make {' '.join(words)}: {tail(result.output)}")
        return result

    def _mend(self) -> bool:
        """Deploys, after `make down` where that is needed; gives whether it was."""
        first = Run.start(self._clone, "deploy").end()
        down = first.status != 0
        if down:
            if not any(line.startswith("✘") for line in first.output.splitlines()):
                raise NotRecoveredError(f"failed without a sentence: {tail(first.output)}")
            self._must("down")
            self._must("deploy")
        self._ask()
        deadline = time.monotonic() + _END_S
        while (left := self._undisturbed.differences(self._state())) and (
            time.monotonic() < deadline
        ):
            time.sleep(0.2)
        if left:
            raise NotRecoveredError(f"another end than undisturbed: {left}")
        return down

    def _ask(self) -> None:
        answer = self._must("query", f"PROMPT={PROMPT}").answer
        self._require(answer == self._references.answer(PROMPT), f"a wrong answer: {answer!r}")

    def _require(self, kept: bool, otherwise: str) -> None:
        if not kept:
            raise NotRecoveredError(otherwise)

    def _require_nothing_runs(self) -> None:
        deadline = time.monotonic() + _END_S
        while (left := self._commands()) and time.monotonic() < deadline:
            time.sleep(0.2)
        roles = sorted(role_of(words) for words in left.values())
        self._require(not left, f"still running after make down: {', '.join(roles)}")

    def _state(self) -> State:
        roles = Counter(role_of(words) for words in self._commands().values())
        try:
            files = self._clone.state()
        except FileNotFoundError as error:  # it has just gone
            files = {str(error.filename): ""}
        return State(files, dict(sorted(roles.items())))

    def _clean(self) -> None:
        """Ends everything by force after a fault, so that the next round starts anew."""
        with contextlib.suppress(NotRecoveredError):
            Run.start(self._clone, "down").end()
        self.stop()
        remove_tree(self._clone.directory / "build")
        with contextlib.suppress(NotRecoveredError):
            self._must("deploy")
