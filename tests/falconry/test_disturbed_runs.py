"""Runs that are killed, refused or robbed at any single point: the next ends as undisturbed.

On the real pipeline, engine store and artifact stage, with an engine and a repository that are a
few bytes; `tests/end_to_end/test_interruptions.py` does a few of these to `make` itself.
"""

import io
import os
import shutil
from pathlib import Path

import pytest

from falconry.artifact.stage import ArtifactStage
from falconry.digests import DigestCache, bytes_digest
from falconry.engine.builder import BuildResult
from falconry.engine.stage import EngineStage
from falconry.engine.store import EngineStore
from falconry.errors import MachineError
from falconry.files import atomic_write, atomic_write_text, remove_stale, translate_disk_errors
from falconry.pipeline import FileStage, Step, Workspace, run_stages
from falconry.progress import Progress
from falconry.settings import load_settings
from tests.engine_manifests import manifest_of
from tests.falconry.faults import every_kill, every_refusal

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# What says when and how long, what only spares work, and what is never removed.
NO_OUTPUT = {"build.json", "digests.json", "lock"}


class SmallJob:
    """Builds an engine of two files from a source of a few bytes."""

    builder = "small"
    checkpoint_name = "a few bytes"

    def __init__(self, source):
        self._source = source

    def inputs(self):
        return {"source": bytes_digest(self._source.read_bytes())}

    def plan(self, key):
        return ()

    def build(self, key, output, report, finished):
        report("converting weights", 0.5)
        weights = output / "weights"
        weights.write_bytes(b"half")
        weights.write_bytes(self._source.read_bytes())
        finished(weights)
        (output / "engine.json").write_text("{}")
        return BuildResult("a small engine", {})


class SmallRepository(FileStage):
    """A directory with a link to the engine's weights and a file of its own."""

    name = "repository"
    version = 1
    makes_directory = True

    def __init__(self, engine, workspace):
        super().__init__(workspace)
        self._engine = engine

    def inputs(self):
        return {"engine": self._engine.digest}

    def file_name(self, key):
        return key

    def write(self, output, report):
        (output / "model" / "1").mkdir(parents=True)
        os.link(self._engine.path / "weights", output / "model" / "1" / "weights")
        config = output / "model" / "config.pbtxt"
        config.write_text("half")
        config.write_text(f'name: "{self._engine.digest}"')

    def summary(self, output):
        return "a small repository"


class Work:
    """A source and what is built of it, below one directory."""

    def __init__(self, directory):
        self.directory = directory
        self.build = directory / "build"
        self.settings = load_settings(ROOT, overrides=f"engine.store={self.build}/store")

    @property
    def source(self):
        return self.directory / "source"

    def run(self):
        """Brings the three stages up to date, as a process of its own would."""
        workspace = Workspace.open(self.build / "local", Progress(io.StringIO()))

        def repository(made):
            return SmallRepository(made["engine"], workspace)

        def artifact(made):
            return ArtifactStage(made["repository"], workspace)

        steps = [
            Step("engine", lambda _: EngineStage(self.settings, workspace)),
            Step("repository", repository, ("engine",)),
            Step("artifact", artifact, ("repository",)),
        ]
        # As in tasks.py, which is where errors of the disk that nobody else has told of are told.
        with translate_disk_errors(self.build):
            return run_stages(steps, workspace)

    def state(self):
        """Every file that was built, with its content."""
        return {
            path.relative_to(self.build).as_posix(): path.read_bytes()
            for path in self.build.rglob("*")
            if path.is_file()
            and ".locks" not in path.parts
            and not any(path.name.strip(".").startswith(name) for name in NO_OUTPUT)
        }


@pytest.fixture(autouse=True)
def no_flushing(monkeypatch):
    """Nothing waits for the disk, which no power cut threatens here."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A source of which nothing is built yet."""
    work = Work(tmp_path / "work")
    work.directory.mkdir()
    work.source.write_bytes(b"weights")
    monkeypatch.setattr("falconry.engine.stage._job", lambda settings, *_: SmallJob(work.source))
    return work


@pytest.fixture
def built(work):
    """The same, built; its source is another then."""
    work.run()
    work.source.write_bytes(b"other weights")
    return work


@pytest.fixture
def whole(work):
    """The state after an undisturbed run from nothing; nothing is left of that run."""
    work.run()
    state = work.state()
    shutil.rmtree(work.build)
    return state


def restored(work, kept):
    """Puts what was built back to what it was."""
    shutil.rmtree(work.build)
    shutil.copytree(kept, work.build)


# --- whole runs -------------------------------------------------------------------------------


def test_a_run_killed_at_any_step_ends_in_the_same_state_when_run_again(work, whole):
    steps = 0
    for step in every_kill(work.run):
        work.run()
        assert work.state() == whole, step
        shutil.rmtree(work.build)
        steps += 1
    assert steps > 50


def test_a_full_disk_at_any_step_is_one_error_and_the_next_run_ends_in_the_same_state(work, whole):
    steps = 0
    for step in every_refusal(work.run, MachineError):
        work.run()
        assert work.state() == whole, step
        shutil.rmtree(work.build)
        steps += 1
    assert steps > 50


@pytest.mark.long  # a run killed at any step is above, one that has nothing to replace
def test_of_a_run_killed_while_it_replaces_what_is_there_nothing_stays_for_long(built, tmp_path):
    """The old output may outlive a killed run, and the next one that has something to do."""
    kept = tmp_path / "kept"
    shutil.copytree(built.build, kept)
    old = built.state()
    built.run()
    new = built.state()
    restored(built, kept)
    for step in every_kill(built.run):
        built.run()
        assert new.items() <= built.state().items() <= (old | new).items(), step
        restored(built, kept)


def victims(work):
    """All that stands there and can be damaged."""
    return [
        path.relative_to(work.build)
        for path in sorted(work.build.rglob("*"))
        if ".locks" not in path.parts and path.name != "lock"
    ]


def overwrite(path, content):
    path.chmod(0o644)
    path.write_bytes(content)


def damage(path, how):
    """Damages a file, or all files of a directory."""
    if how == "delete" and path.is_dir():
        shutil.rmtree(path)
        return
    for file in [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]:
        match how:
            case "delete":
                file.unlink()
            case "overwrite":
                overwrite(file, b"damaged")
            case "empty":
                overwrite(file, b"")
            case "same size":
                overwrite(file, bytes(file.stat().st_size))


@pytest.mark.parametrize("how", ["delete", "overwrite", "empty", "same size"])
def test_whatever_is_lost_or_damaged_is_made_again(work, whole, how):
    work.run()
    names = victims(work)
    assert len(names) > 15
    for name in names:
        damage(work.build / name, how)
        work.run()
        assert work.state() == whole, name


def test_what_is_added_to_an_output_does_not_stay(work, whole):
    work.run()
    for directory in [path for path in victims(work) if (work.build / path).is_dir()]:
        inside = directory.parts[0] == "store" or "repository" in directory.parts
        if inside and len(directory.parts) > 1 and directory.parts[-1] != "repository":
            (work.build / directory / "added").write_text("surprise")
            work.run()
            assert work.state() == whole, directory


# --- a file -----------------------------------------------------------------------------------


def test_a_file_is_the_old_or_the_new_one_wherever_its_writer_is_killed(tmp_path):
    place = tmp_path / "out"
    found = set()

    def write():
        atomic_write_text(place, "new")

    place.write_text("old")
    for step in every_kill(write):
        found.add(place.read_text())
        assert found <= {"old", "new"}, step
        remove_stale(tmp_path)
        assert os.listdir(tmp_path) == ["out"], step
        place.write_text("old")
    assert found == {"old", "new"}


def test_a_directory_is_whole_or_not_there_wherever_its_writer_is_killed(tmp_path):
    place = tmp_path / "out"
    found = set()

    def write():
        with atomic_write(place, directory=True) as output:
            for name in ("a", "b"):
                (output / name).write_text(name)

    for step in every_kill(write):
        found.add(tuple(sorted(os.listdir(place))) if place.exists() else None)
        assert found <= {None, ("a", "b")}, step
        remove_stale(tmp_path)
        assert os.listdir(tmp_path) == [path.name for path in tmp_path.glob("out")], step
        shutil.rmtree(place, ignore_errors=True)
    assert found == {None, ("a", "b")}


def test_a_file_is_the_old_or_the_new_one_wherever_the_disk_is_full(tmp_path):
    place = tmp_path / "out"
    place.write_text("old")

    def write():
        with translate_disk_errors(place):
            atomic_write_text(place, "new")

    for step in every_refusal(write, MachineError):
        assert place.read_text() in {"old", "new"}, step
        remove_stale(tmp_path)
        assert os.listdir(tmp_path) == ["out"], step
        place.write_text("old")


# --- the store --------------------------------------------------------------------------------

KEY, OTHER = "a" * 64, "b" * 64
FILES = {"rank0.engine": b"engine", "config.json": b"{}"}


class Bucket:
    """A mirror that is a directory with one engine."""

    def __init__(self, directory):
        self._directory = directory

    def fetch(self, key, directory, report):
        shutil.copytree(self._directory / key, directory, dirs_exist_ok=True)
        return True


def open_store(directory, mirror=None):
    return EngineStore(directory, DigestCache(directory.parent / "digests.json"), mirror)


def add(store, key=KEY):
    def build(output):
        for name, content in FILES.items():
            (output / name).write_bytes(content)
        return manifest_of(key, FILES)

    return store.add(key, build, lambda holder: None)


def refused_build(output):
    raise AssertionError("it was built")


def test_an_engine_from_the_mirror_is_whole_or_not_there_wherever_its_fetching_is_killed(tmp_path):
    add(open_store(tmp_path / "bucket"))
    mirror, directory = Bucket(tmp_path / "bucket"), tmp_path / "store"

    def fetch():
        open_store(directory, mirror).add(KEY, refused_build, lambda holder: None)

    for step in every_kill(fetch):
        entry = directory / KEY
        assert not entry.exists() or open_store(directory).find(KEY), step
        fetch()
        assert open_store(directory).find(KEY), step
        shutil.rmtree(directory)


def test_a_pruning_that_is_killed_anywhere_is_finished_by_the_next(tmp_path):
    directory = tmp_path / "store"

    def prune():
        open_store(directory).prune(0, protect={KEY})

    def fill():
        add(open_store(directory))
        add(open_store(directory), OTHER)

    fill()
    for step in every_kill(prune):
        assert open_store(directory).find(KEY), step
        prune()
        assert {path.name for path in directory.iterdir()} == {KEY, ".locks"}, step
        fill()
