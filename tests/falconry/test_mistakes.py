"""What users do wrong, or what their machine lacks: one clear sentence, and nothing changed.

That `make` shows the sentence as its one line: tests/end_to_end/test_mistakes.py.
"""

import io
import json
import os
import resource
import shutil
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from falconry.digests import bytes_digest
from falconry.engine.spec import load_recipe
from falconry.errors import FalconryError, format_error_with_details
from falconry.progress import Progress
from falconry.project import Project
from falconry.settings import load_settings

ROOT = Path(__file__).parents[2]
TINY = ROOT / "checkpoints/tiny-falcon"
SHARDED = ROOT / "tests/data/checkpoints/falcon-40b"


class Directory:
    """A project's directory, in which every target is what the process does."""

    def __init__(self, path):
        self.path = path

    def run_until(self, stage, profile="local", **selected):
        """What `make <stage>` does: settings, project, stages."""
        selected = {"checkpoint": str(TINY), **selected}
        settings = load_settings(self.path, profile, **selected)
        return Project(settings, Progress(io.StringIO())).run_until(stage)

    def fails(self, stage, **selected):
        """Tries, which must fail; gives its one line."""
        with pytest.raises(FalconryError) as failure:
            self.run_until(stage, **selected)
        line = format_error_with_details(failure.value)
        assert "\n" not in line
        return line

    def state(self):
        """Every file that was built, with its content's digest."""
        build = self.path / "build"
        return {
            path.relative_to(build).as_posix(): bytes_digest(path.read_bytes())
            for path in build.rglob("*")
            if path.is_file()
            and path.name not in {"digests.json", "lock"}
            and ".locks" not in path.parts
        }


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A project's directory with the engine of the tiny Falcon."""
    path = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "profiles", path / "profiles")
    (path / "model_repository").symlink_to(ROOT / "model_repository")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        Directory(path).run_until("engine")
    return path


@pytest.fixture
def built(directory, monkeypatch):
    monkeypatch.chdir(directory)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    return Directory(directory)


@pytest.fixture
def checkpoint(tmp_path):
    """A copy of the tiny Falcon to spoil."""
    return Path(shutil.copytree(TINY, tmp_path / "checkpoint"))


def spoil_nothing(directory):
    shutil.rmtree(directory)


def spoil_everything(directory):
    shutil.rmtree(directory)
    directory.mkdir()


def spoil_shard(directory):
    weights = directory / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)


def spoil_architecture(directory):
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 768}
    (directory / "config.json").write_text(json.dumps(config))


def spoil_tokenizer(directory):
    (directory / "tokenizer.json").unlink()


def spoil_vocabulary(directory):
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "vocab_size": 999}))


def spoil_header(directory):
    weights = directory / "model.safetensors"
    weights.write_bytes(struct.pack("<Q", 20) + b"not a header at all.")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_nothing, ["is not a directory"]),
        (spoil_everything, ["config.json"]),
        (spoil_shard, ["model.safetensors"]),
        (spoil_architecture, ["gpt2"]),
        (spoil_tokenizer, ["tokenizer.json"]),
        (spoil_vocabulary, ["999", "768"]),
        (spoil_header, ["model.safetensors"]),
    ],
)
def test_a_bad_checkpoint_is_one_clear_line(built, checkpoint, spoil, said):
    before = built.state()
    spoil(checkpoint)
    line = built.fails("deployment", checkpoint=str(checkpoint))
    assert all(word in line for word in said), line
    assert built.state() == before


def test_an_absent_shard_is_one_clear_line(built, tmp_path):
    before = built.state()
    checkpoint = Path(shutil.copytree(SHARDED, tmp_path / "checkpoint"))
    shard = sorted(checkpoint.glob("model-*.safetensors"))[-1]
    shard.unlink()
    assert shard.name in built.fails("engine", checkpoint=str(checkpoint))
    assert built.state() == before


@pytest.mark.parametrize(
    ("selected", "said"),
    [
        ({"profile": "nowhere"}, ["nowhere", "local"]),
        ({"recipe": "nothing"}, ["nothing", "cpu-f32"]),
        ({"overrides": "serving.rout=x"}, ["serving.rout", "unknown key"]),
        ({"overrides": "serving.port=x"}, ["serving.port"]),
        ({"overrides": "nonsense"}, ["section.key=value"]),
    ],
)
def test_a_wrong_selection_is_one_clear_line(built, selected, said):
    before = built.state()
    line = built.fails("engine", **selected)
    assert all(word in line for word in said), line
    assert built.state() == before


def with_a_surprise(original, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("surprise = 1\n" + original.read_text())


def test_an_unknown_key_in_a_profile_is_named(built):
    mine = built.path / "profiles/mine.toml"
    with_a_surprise(ROOT / "profiles/local.toml", mine)
    line = built.fails("engine", profile="mine")
    assert "surprise" in line
    assert "profiles/mine.toml" in line
    mine.unlink()


def test_an_unknown_key_in_a_recipe_is_named(tmp_path):
    recipes = tmp_path / "engine/recipes"
    with_a_surprise(ROOT / "engine/recipes/cpu.toml", recipes / "mine.toml")
    with pytest.raises(FalconryError) as failure:
        load_recipe("mine", recipes)
    line = format_error_with_details(failure.value)
    assert "surprise" in line
    assert "engine/recipes/mine.toml" in line
    assert "\n" not in line


def test_too_few_open_files_are_one_clear_line(built, monkeypatch):
    before = built.state()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    line = built.fails("engine", recipe="cpu-f32")
    assert line == (
        "ulimit -n: a process may open 64 files here, and a run needs 256; allow more, for"
        " instance: ulimit -n 1024"
    )
    assert built.state() == before


def test_a_taken_port_is_one_clear_line(built):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        line = built.fails("deployment", overrides=f"cloud.emulator.port={port}")
    assert str(port) in line


def test_a_full_disk_is_one_clear_line(built, tmp_path):
    """On a real file system of half a megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        before = built.state()
        line = built.fails("engine", overrides=f"engine.store={disk}/store")
        assert "space" in line
        left = [path for path in disk.rglob("*") if path.is_file() and ".locks" not in path.parts]
        assert left == []
        assert built.state() == before
    finally:
        subprocess.run(["umount", disk], check=True)
