"""Stages, keys and receipts: runs do only the work needed.

A stage's key is the SHA-256 of everything that decides its result. Its receipt is written after the
output and holds the output's key and the digest of each file; a receipt whose output is gone or
differs counts as absent.
"""

from __future__ import annotations

import contextlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from typing_extensions import override

from falconry.digests import DigestCache, tree_files, value_digest
from falconry.documents import DocumentError, parse_json, read_document
from falconry.errors import FalconryError
from falconry.files import atomic_write, atomic_write_text, file_lock, remove, remove_stale
from falconry.progress import Progress

Report = Callable[[str, float | None], None]
"""Called by running stages: the step's name, and the fraction done (0 to 1) if known."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """A run's directory, digest cache and progress."""

    build: Path
    digests: DigestCache
    progress: Progress

    @classmethod
    def open(cls, build: Path, progress: Progress) -> Workspace:
        """Opens a workspace in `build`, which need not exist yet."""
        return cls(build, DigestCache(build.parent / "digests.json"), progress)

    def lock(self, stage: str) -> contextlib.AbstractContextManager[None]:
        """Locks the profile; a second run waits and reports for which process."""
        return file_lock(
            self.build / "lock",
            lambda holder: self.progress.waiting(stage, f"waiting for {holder}"),
        )


@dataclass(frozen=True, slots=True)
class Output:
    """A stage's result.

    Attributes:
        path: of the output; empty for a deployment, which is in the cloud.
        digest: of the content; a deployment's OCID.
        summary: a line about it for people.
    """

    path: Path
    digest: str
    summary: str


# A receipt's fields that are texts; the others are tables of texts.
_TEXTS = ("stage", "key", "output")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a stage last made, and from which inputs.

    Attributes:
        found: what was only known when it was made, such as the digest of a base image.
    """

    stage: str
    key: str
    ingredients: Mapping[str, str]
    output: str
    files: Mapping[str, str]
    found: Mapping[str, str] = field(default_factory=dict)


class Stage(ABC):
    """One step of the pipeline, from typed inputs to an output.

    Attributes:
        name: the stage's name in messages, receipts and make targets.
        version: raised whenever the same inputs would give another result.
    """

    name: str
    version: int

    @abstractmethod
    def inputs(self) -> Mapping[str, str]:
        """Everything that decides the result, by a name that people understand."""

    @abstractmethod
    def find(self, key: str) -> Output | None:
        """Finds and verifies the output for this key."""

    @abstractmethod
    def make(self, key: str, inputs: Mapping[str, str], report: Report) -> Output:
        """Makes the output for this key; the caller holds the profile's lock."""

    @abstractmethod
    def reason(self, inputs: Mapping[str, str]) -> str:
        """Says what is new, gone or damaged, so that the stage runs."""

    def details(self, key: str) -> Sequence[str]:
        """Returns what `make plan` shows beside the reason."""
        return ()

    def key(self, inputs: Mapping[str, str]) -> str:
        """Returns 64 hex digits for these inputs and the stage's version."""
        parts = {"stage": self.name, "version": self.version, "ingredients": dict(inputs)}
        return value_digest(parts).removeprefix("sha256:")


class FileStage(Stage):
    """A stage whose output is a file or directory below `build`.

    The output's name has its key, so the old output stays complete until the new one and its
    receipt are written.
    """

    makes_directory: bool

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._receipt = workspace.build / "receipts" / f"{self.name}.json"

    @abstractmethod
    def write(self, output: Path, report: Report) -> None:
        """Writes the output to a temporary path."""

    @abstractmethod
    def file_name(self, key: str) -> str:
        """Returns the output's name below `<build>/<stage>/`."""

    @abstractmethod
    def summary(self, output: Path) -> str:
        """Returns a line about the output for people."""

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
        path = directory / self.file_name(key)
        if self.makes_directory:
            remove(path)
        with atomic_write(path, directory=self.makes_directory) as output:
            self.write(output, report)
        files = self._files(path)
        name = path.relative_to(self._workspace.build).as_posix()
        receipt = Receipt(self.name, key, inputs, name, files)
        atomic_write_text(self._receipt, json.dumps(asdict(receipt), indent=1))
        for entry in directory.iterdir():
            if entry != path:
                remove(entry)
        return self._output(path, files)

    @override
    def reason(self, inputs: Mapping[str, str]) -> str:
        receipt = read_receipt(self._receipt)
        return changed_inputs(receipt.ingredients if receipt else None, inputs)

    def _files(self, output: Path) -> dict[str, str]:
        """Returns the digests of the files that exist there."""
        try:
            if output.is_dir():
                return self._workspace.digests.files(output, tree_files(output))
            return {"": self._workspace.digests.file(output)}
        except OSError:
            return {}

    def _output(self, path: Path, files: Mapping[str, str]) -> Output:
        digest = value_digest(dict(files)) if self.makes_directory else files[""]
        return Output(path, digest, self.summary(path))


def read_receipt(path: Path) -> Receipt | None:
    """Reads a receipt; None if there is no valid one."""
    try:
        values = parse_json(read_document(path))
        known = isinstance(values, dict) and all(map(_may_be_in_receipt, values, values.values()))
        return Receipt(**values) if known else None
    except (DocumentError, TypeError):
        return None


def _may_be_in_receipt(name: str, value: object) -> bool:
    if name in _TEXTS:
        return isinstance(value, str)
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


def changed_inputs(last: Mapping[str, str] | None, now: Mapping[str, str]) -> str:
    """Says which inputs differ from those of the last time."""
    if last is None:
        return "nothing made yet"
    changed = [name for name in sorted({*last, *now}) if last.get(name) != now.get(name)]
    return ", ".join(f"{name} changed" for name in changed) or "output gone or damaged"


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """Whether and why a stage would run, with details."""

    name: str
    runs: bool
    why: str
    details: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the pipeline.

    Attributes:
        name: the stage's.
        stage: makes the stage from the outputs of all steps in `needs`, by their name.
        needs: earlier steps that decide its inputs.
        outlook: returns what can be said of the stage before those have run, for `plan`.
    """

    name: str
    stage: Callable[[Mapping[str, Output]], Stage]
    needs: tuple[str, ...] = ()
    outlook: Callable[[], Sequence[str]] = tuple


def steps_to(last: str, steps: Sequence[Step]) -> list[Step]:
    """Selects a step and those that it needs, in order."""
    wanted = {last}
    for step in reversed(steps):
        if step.name in wanted:
            wanted.update(step.needs)
    return [step for step in steps if step.name in wanted]


def run_stages(steps: Sequence[Step], workspace: Workspace) -> Output:
    """Runs stages that are out of date; returns the last output.

    A run with nothing to do takes no lock. A run that has to work takes the profile's lock and
    checks again from the start, since the run that it waited for may have done the work.

    Raises:
        FalconryError: a stage failed; the outputs of earlier stages are kept.
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
    """Returns what `run_stages` would do, without doing it.

    A stage that its settings do not allow is reported too, and is no error.
    """
    found: dict[str, Output] = {}
    planned = []
    for step in steps:
        missing = [name for name in step.needs if name not in found]
        if missing:
            why = f"follows {' and '.join(missing)}"
            planned.append(PlannedStage(step.name, True, why, step.outlook()))
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
    begun, seconds = time.monotonic(), dict[str, float]()
    for step in steps:
        stage = step.stage(made)
        inputs = stage.inputs()
        key = stage.key(inputs)
        output = stage.find(key)
        if output:
            workspace.progress.done(step.name, "up to date", output.summary)
        else:
            started = time.monotonic()
            output = _make(stage, key, inputs, workspace.progress)
            seconds[step.name] = time.monotonic() - started
        made[step.name] = output
    if seconds:
        each = ", ".join(f"{name} {taken:.1f} s" for name, taken in seconds.items())
        workspace.progress.done("time", f"{time.monotonic() - begun:.1f} s", each)
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
