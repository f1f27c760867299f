"""What users do wrong, or what their machine lacks: one clear line, and nothing changed."""

import json
import os
import shutil
import socket
import struct
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY = ROOT / "checkpoints/tiny-falcon"
SHARDED = ROOT / "tests/data/checkpoints/falcon-40b"


@pytest.fixture(scope="module")
def built(clone):
    clone.ok("engine")
    return clone


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
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 768}
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
        (spoil_architecture, ["llama"]),
        (spoil_tokenizer, ["tokenizer.json"]),
        (spoil_vocabulary, ["999", "768"]),
        (spoil_header, ["model.safetensors"]),
    ],
)
def test_a_bad_checkpoint_is_one_clear_line(built, checkpoint, spoil, said):
    before = built.state()
    spoil(checkpoint)
    line = built.fails("deploy", f"CHECKPOINT={checkpoint}")
    assert all(word in line for word in said), line
    assert built.state() == before


def test_an_absent_shard_is_one_clear_line(built, tmp_path):
    before = built.state()
    checkpoint = Path(shutil.copytree(SHARDED, tmp_path / "checkpoint"))
    shard = sorted(checkpoint.glob("model-*.safetensors"))[-1]
    shard.unlink()
    assert shard.name in built.fails("engine", f"CHECKPOINT={checkpoint}")
    assert built.state() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["PROFILE=nowhere"], ["nowhere", "local"]),
        (["RECIPE=nothing"], ["nothing", "cpu-f32"]),
        (["SET=serving.rout=x"], ["serving.rout", "unknown key"]),
        (["SET=serving.route=x"], ["serving.route"]),
        (["SET=nonsense"], ["section.key=value"]),
    ],
)
def test_a_wrong_selection_is_one_clear_line(built, words, said):
    before = built.state()
    line = built.fails("engine", *words)
    assert all(word in line for word in said), line
    assert built.state() == before


@pytest.mark.parametrize("file", ["profiles/mine.toml", "engine/recipes/mine.toml"])
def test_an_unknown_key_in_a_toml_file_is_named(built, file):
    path = built.directory / file
    original = {"profiles": "local.toml", "engine": "cpu.toml"}[Path(file).parts[0]]
    text = (path.parent / original).read_text()
    path.write_text("surprise = 1\n" + text)
    word = "PROFILE=mine" if file.startswith("profiles") else "RECIPE=mine"
    line = built.fails("engine", word)
    assert "surprise" in line
    assert file in line
    path.unlink()


def test_a_taken_port_is_one_clear_line(built):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        line = built.fails("deploy", f"SET=cloud.emulator.port={port}")
    assert str(port) in line
    assert built.processes() == []


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
        line = built.fails("engine", f"SET=engine.store={disk}/store")
        assert "space" in line
        left = [path for path in disk.rglob("*") if path.is_file() and ".locks" not in path.parts]
        assert left == []
        assert built.state() == before
    finally:
        subprocess.run(["umount", disk], check=True)
