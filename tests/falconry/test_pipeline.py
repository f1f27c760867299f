import io
import itertools
import multiprocessing
import os
import re
import signal
import time

import pytest

from falconry.digests import bytes_digest
from falconry.errors import EngineError
from falconry.pipeline import FileStage, Step, Workspace, plan, run_stages, steps_to
from falconry.progress import Progress


class Copy(FileStage):
    """Writes its input's text to a file, or to a file in a directory."""

    name = "copy"
    version = 1
    makes_directory = False

    def __init__(self, source, workspace, during=lambda: None):
        super().__init__(workspace)
        self._source = source
        self._during = during

    def inputs(self):
        return {"source": bytes_digest(self._source.read_bytes())}

    def file_name(self, key):
        return key

    def write(self, output, report):
        target = output / "file" if self.makes_directory else output
        target.write_text("half")
        self._during()
        target.write_text(self._source.read_text())

    def summary(self, output):
        return output.name


class CopyIntoDirectory(Copy):
    name = "directory"
    makes_directory = True


class Second(Copy):
    name = "second"


@pytest.fixture
def work(tmp_path):
    (tmp_path / "source").write_text("one")
    return tmp_path


def run(work, *kinds, during=lambda: None):
    """Brings stages up to date; gives the last output and the lines that were printed."""
    lines = io.StringIO()
    workspace = Workspace.open(work / "build" / "profile", Progress(lines))
    output = run_stages(steps(work, workspace, kinds or (Copy,), during), workspace)
    return output, lines.getvalue()


def steps(work, workspace, kinds, during=lambda: None):
    """Stages in a row, each with the output of the one before for its source."""

    def step(kind, before):
        def stage(made):
            return kind(made[before.name].path if before else work / "source", workspace, during)

        return Step(kind.name, stage, (before.name,) if before else ())

    return list(itertools.starmap(step, zip(kinds, [None, *kinds], strict=False)))


def forbidden():
    raise AssertionError("the stage ran")


@pytest.mark.parametrize("kind", [Copy, CopyIntoDirectory])
def test_a_second_run_does_nothing_and_says_so(work, kind):
    first, _ = run(work, kind)
    second, lines = run(work, kind, during=forbidden)
    assert second == first
    assert "up to date" in lines


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        *((Copy, damage) for damage in ("delete", "change", "receipt")),
        *((CopyIntoDirectory, damage) for damage in ("delete", "change", "add", "receipt")),
    ],
)
def test_a_lost_or_damaged_output_is_made_again_the_same(work, kind, damage):
    first, _ = run(work, kind)
    file = first.path / "file" if kind.makes_directory else first.path
    if damage == "delete":
        file.unlink()
    elif damage == "change":
        file.write_text("two")
    elif damage == "add":
        (first.path / "extra").touch()
    else:
        (work / "build/profile/receipts" / f"{kind.name}.json").write_text("{")
    again, _ = run(work, kind)
    assert again == first
    assert (again.path / "file" if kind.makes_directory else again.path).read_text() == "one"


def test_a_changed_input_is_a_new_output_and_the_old_one_goes(work):
    first, _ = run(work)
    (work / "source").write_text("two")
    second, _ = run(work)
    assert second.path.read_text() == "two"
    assert not first.path.exists()


def test_a_failing_stage_leaves_the_old_output(work):
    first, _ = run(work)
    (work / "source").write_text("two")

    def fail():
        raise EngineError("no")

    with pytest.raises(EngineError):
        run(work, during=fail)
    assert first.path.read_text() == "one"
    (work / "source").write_text("one")
    run(work, during=forbidden)


def test_later_stages_run_only_when_what_they_build_on_changed(work):
    run(work, Copy, Second)
    _, lines = run(work, Copy, Second, during=forbidden)
    assert lines.count("up to date") == 2


def slow_run(work, started):
    def during():
        started.set()
        time.sleep(1)

    run(work, during=during)


def test_a_run_that_worked_ends_with_the_times_of_the_stages_that_did(work):
    _, lines = run(work, Copy)
    assert re.fullmatch(r"✔ time +\d+\.\d s +copy \d+\.\d s", lines.splitlines()[-1])
    _, lines = run(work, Copy, Second)
    assert re.fullmatch(r"✔ time +\d+\.\d s +second \d+\.\d s", lines.splitlines()[-1])
    _, lines = run(work, Copy, Second)
    assert "✔ time" not in lines


def test_a_killed_run_ends_in_the_same_state_when_run_again(work):
    started = multiprocessing.Event()
    process = multiprocessing.Process(target=slow_run, args=(work, started))
    process.start()
    started.wait(30)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    output, _ = run(work)
    assert output.path.read_text() == "one"
    assert [path.name for path in output.path.parent.iterdir()] == [output.path.name]


def test_of_two_runs_at_once_one_works_and_the_other_finds_the_work_done(work):
    started = multiprocessing.Event()
    process = multiprocessing.Process(target=slow_run, args=(work, started))
    process.start()
    started.wait(30)
    output, lines = run(work, during=forbidden)
    process.join()
    assert process.exitcode == 0
    assert output.path.read_text() == "one"
    assert f"waiting for process {process.pid}" in lines


def planned(work, *kinds):
    workspace = Workspace.open(work / "build" / "profile", Progress(io.StringIO()))
    return [
        (stage.name, stage.runs, stage.why)
        for stage in plan(steps(work, workspace, kinds), workspace)
    ]


def test_a_plan_says_what_would_run_and_why_and_makes_nothing(work):
    assert planned(work, Copy, Second) == [
        ("copy", True, "nothing made yet"),
        ("second", True, "follows copy"),
    ]
    assert not (work / "build" / "profile").exists()
    output, _ = run(work, Copy, Second)
    assert [runs for _, runs, _ in planned(work, Copy, Second)] == [False, False]
    output.path.unlink()
    assert planned(work, Copy, Second)[1] == ("second", True, "output gone or damaged")
    (work / "source").write_text("two")
    assert planned(work, Copy, Second)[0] == ("copy", True, "source changed")


class Branch(Copy):
    name = "branch"


class Join(Copy):
    """Copies the output of `second`, and has `branch` for another ingredient."""

    name = "join"

    def __init__(self, made, workspace):
        super().__init__(made["second"].path, workspace)
        self._branch = made["branch"].digest

    def inputs(self):
        return {**super().inputs(), "branch": self._branch}


def joined(work, workspace):
    """Two in a row, a branch of its own, and a stage that needs both."""
    (work / "branch").touch()
    row = steps(work, workspace, [Copy, Second])
    branch = Step("branch", lambda _: Branch(work / "branch", workspace))
    return [*row, branch, Step("join", lambda made: Join(made, workspace), ("second", "branch"))]


def test_a_stage_that_needs_two_runs_when_either_changed(work):
    workspace = Workspace.open(work / "build" / "profile", Progress(io.StringIO()))
    run_stages(joined(work, workspace), workspace)
    assert [stage.runs for stage in plan(joined(work, workspace), workspace)] == 4 * [False]
    (work / "branch").write_text("new")
    assert [(stage.name, stage.why) for stage in plan(joined(work, workspace), workspace)][2:] == [
        ("branch", "source changed"),
        ("join", "follows branch"),
    ]
    (work / "source").write_text("new")
    assert [stage.why for stage in plan(joined(work, workspace), workspace)] == [
        "source changed",
        "follows copy",
        "source changed",
        "follows second and branch",
    ]


def test_only_what_a_stage_needs_is_run_for_it(work):
    workspace = Workspace.open(work / "build" / "profile", Progress(io.StringIO()))
    everything = joined(work, workspace)
    assert [step.name for step in steps_to("second", everything)] == ["copy", "second"]
    assert [step.name for step in steps_to("branch", everything)] == ["branch"]
    assert steps_to("join", everything) == everything
