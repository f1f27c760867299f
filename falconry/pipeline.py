"""Stages, their keys and their receipts: what makes a run do the work once and never by halves.

A stage's key is the SHA-256 of everything that decides its result. Its receipt, renamed into
place after the output, says which key the output belongs to and what each file's digest is; a
receipt whose output is gone or differs counts as absent.
"""

from __future__ import annotations

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from typing_extensions import override

from falconry.digests import DigestCache, tree_files, value_digest
from falconry.errors import FalconryError
from falconry.files import atomic_write, atomic_write_text, file_lock, remove, remove_stale
from falconry.progress import Progress

Report = Callable[[str, float | None], None]
"""Called by working stages: the step's name, and the fraction done (0 to 1) where known."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where a run works: outputs and receipts below `build`, digests remembered in one cache."""

    build: Path
    digests: DigestCache
    progress: Progress

    @classmethod
    def open(cls, build: Path, progress: Progress) -> Workspace:
        """A workspace in `build`, which need not exist yet."""
        return cls(build, DigestCache(build.parent / "digests.json"), progress)

    def lock(self, stage: str) -> contextlib.AbstractContextManager[None]:
        """The profile's lock; a second run waits and says for whom."""
        return file_lock(
            self.build / "lock",
            lambda holder: self.progress.waiting(stage, f"waiting for {holder}"),
        )


@dataclass(frozen=True, slots=True)
class Output:
    """A stage's result.

    Attributes:
        path: where it stands; for a deployment, which stands in the cloud, an empty path.
        digest: its content digest, or in the cloud its OCID.
        summary: a line about it for people.
    """

    path: Path
    digest: str
    summary: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a stage last made, and from what."""

    stage: str
    key: str
    ingredients: Mapping[str, str]
    output: str
    files: Mapping[str, str]


class Stage(ABC):
    """One step of the pipeline, from typed inputs to an output.

    Attributes:
        name: the stage's name in messages, receipts and make targets.
        version: raised whenever the same ingredients would give another result.
    """

    name: str
    version: int

    @abstractmethod
    def inputs(self) -> Mapping[str, str]:
        """Everything that decides the result, by a name that people understand."""

    @abstractmethod
    def find(self, key: str) -> Output | None:
        """The verified output for this key, if it stands."""

    @abstractmethod
    def make(self, key: str, inputs: Mapping[str, str], report: Report) -> Output:
        """Makes the output for this key. Called with the profile's lock held."""

    @abstractmethod
    def reason(self, inputs: Mapping[str, str]) -> str:
        """Why the stage has to run, in words: what is new, gone or damaged."""

    def details(self, key: str) -> Sequence[str]:
        """What `make plan` shows of a stage that would run, beside the reason."""
        return ()

    def key(self, inputs: Mapping[str, str]) -> str:
        """64 hex digits that stand for these ingredients and this version of the stage."""
        parts = {"stage": self.name, "version": self.version, "ingredients": dict(inputs)}
        return value_digest(parts).removeprefix("sha256:")


class FileStage(Stage):
    """A stage whose output is a file or directory of its own below the build directory.

    The output stands under a name made from its key, so the old one stays whole until the new
    one and its receipt are in place.
    """

    makes_directory: bool

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._receipt = workspace.build / "receipts" / f"{self.name}.json"

    @abstractmethod
    def write(self, output: Path, report: Report) -> None:
        """Writes the output to a temporary place."""

    @abstractmethod
    def file_name(self, key: str) -> str:
        """The output's name below `<build>/<stage>/`."""

    @abstractmethod
    def summary(self, output: Path) -> str:
        """A line about the output for people."""

    @override
    def find(self, key: str) -> Output | None:
        receipt = read_receipt(self._receipt)
        if receipt is None or receipt.key != key:
            return None
        output = self._workspace.build / receipt.output
        if self._files(output) != receipt.files:
            return None
        return self._output(output, receipt.files)

    @override
    def make(self, key: str, inputs: Mapping[str, str], report: Report) -> Output:
        directory = self._workspace.build / self.name
        for written in (directory, self._receipt.parent):
            remove_stale(written)
        place = directory / self.file_name(key)
        if self.makes_directory:
            remove(place)
        with atomic_write(place, directory=self.makes_directory) as output:
            self.write(output, report)
        files = self._files(place)
        name = place.relative_to(self._workspace.build).as_posix()
        receipt = Receipt(self.name, key, inputs, name, files)
        atomic_write_text(self._receipt, json.dumps(asdict(receipt), indent=1))
        for entry in directory.iterdir():
            if entry != place:
                remove(entry)
        return self._output(place, files)

    @override
    def reason(self, inputs: Mapping[str, str]) -> str:
        receipt = read_receipt(self._receipt)
        return changed_inputs(receipt.ingredients if receipt else None, inputs)

    def _files(self, output: Path) -> dict[str, str]:
        """The digests of what stands there now; empty when nothing does."""
        try:
            if output.is_dir():
                return self._workspace.digests.files(output, tree_files(output))
            return {"": self._workspace.digests.file(output)}
        except OSError:
            return {}

    def _output(self, place: Path, files: Mapping[str, str]) -> Output:
        digest = value_digest(dict(files)) if self.makes_directory else files[""]
        return Output(place, digest, self.summary(place))


def read_receipt(path: Path) -> Receipt | None:
    """A receipt, or None when there is none that can be read."""
    try:
        return Receipt(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def changed_inputs(last: Mapping[str, str] | None, now: Mapping[str, str]) -> str:
    """The ingredients that differ from the last time's, in words."""
    if last is None:
        return "nothing made yet"
    changed = [name for name in sorted({*last, *now}) if last.get(name) != now.get(name)]
    return ", ".join(f"{name} changed" for name in changed) or "output gone or damaged"


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """What would happen to a stage, and why.

    Attributes:
        details: more lines on how a stage would run.
    """

    name: str
    runs: bool
    why: str
    details: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """A place in the pipeline: a stage that is put together from the outputs that it needs.

    Attributes:
        name: the stage's.
        stage: makes the stage; given the outputs of all steps in `needs`, by their name.
        needs: steps before it that decide its inputs.
    """

    name: str
    stage: Callable[[Mapping[str, Output]], Stage]
    needs: tuple[str, ...] = ()


def steps_to(last: str, steps: Sequence[Step]) -> list[Step]:
    """The steps that lead to one of them, it included, in the given order."""
    wanted = {last}
    for step in reversed(steps):
        if step.name in wanted:
            wanted.update(step.needs)
    return [step for step in steps if step.name in wanted]


def run_stages(steps: Sequence[Step], workspace: Workspace) -> Output:
    """Runs the stages that are out of date, in order, and gives the last one's output.

    Nothing is locked while there is nothing to do. A run that has to work takes the profile's
    lock and looks again from the start: what it waited for may have been just that work.

    Raises:
        FalconryError: of the stage that failed; earlier stages' outputs stand.
    """
    try:
        found: dict[str, Output] = {}
        for step in steps:
            output = _find(step, found)
            if output is None:
                with workspace.lock(step.name):
                    return _run(steps, workspace)
            found[step.name] = output
        for name, output in found.items():
            workspace.progress.done(name, "up to date", output.summary)
        return found[steps[-1].name]
    finally:
        workspace.digests.save()


def plan(steps: Sequence[Step], workspace: Workspace) -> list[PlannedStage]:
    """Says what `run_stages` would do, and does none of it.

    A stage that its settings alone rule out is among the answers, and no error.
    """
    found: dict[str, Output] = {}
    planned = []
    for step in steps:
        missing = [name for name in step.needs if name not in found]
        if missing:
            planned.append(PlannedStage(step.name, True, f"follows {' and '.join(missing)}"))
            continue
        try:
            stage = step.stage(found)
        except FalconryError as refusal:
            planned.append(PlannedStage(step.name, True, f"and would be refused: {refusal}"))
            continue
        inputs = stage.inputs()
        key = stage.key(inputs)
        output = stage.find(key)
        if output:
            found[step.name] = output
            planned.append(PlannedStage(step.name, False, output.summary))
        else:
            why = stage.reason(inputs)
            planned.append(PlannedStage(step.name, True, why, stage.details(key)))
    workspace.digests.save()
    return planned


def _find(step: Step, found: Mapping[str, Output]) -> Output | None:
    stage = step.stage(found)
    return stage.find(stage.key(stage.inputs()))


def _run(steps: Sequence[Step], workspace: Workspace) -> Output:
    made: dict[str, Output] = {}
    for step in steps:
        stage = step.stage(made)
        inputs = stage.inputs()
        key = stage.key(inputs)
        output = stage.find(key)
        if output:
            workspace.progress.done(step.name, "up to date", output.summary)
        else:
            output = _make(stage, key, inputs, workspace.progress)
        made[step.name] = output
    return made[steps[-1].name]


def _make(stage: Stage, key: str, inputs: Mapping[str, str], progress: Progress) -> Output:
    def report(step: str, fraction: float | None) -> None:
        progress.running(stage.name, step, fraction)

    try:
        report(stage.reason(inputs), None)
        output = stage.make(key, inputs, report)
    except BaseException as cause:
        interrupted = isinstance(cause, KeyboardInterrupt)
        progress.failed(stage.name, "interrupted" if interrupted else "failed")
        raise
    progress.done(stage.name, "made", output.summary)
    return output
