"""What users do wrong, or what their machine lacks: one clear line, and nothing changed.

One case of each kind; all of them, and what their line says: tests/falconry/test_mistakes.py.
"""

import os
import shutil
import socket
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY = ROOT / "checkpoints/tiny-falcon"


@pytest.fixture(scope="module")
def built(clone):
    clone.ok("engine")
    return clone


@pytest.mark.long  # falconry/test_mistakes.py has every such checkpoint
def test_a_bad_checkpoint_is_one_clear_line(built, tmp_path):
    before = built.state()
    checkpoint = Path(shutil.copytree(TINY, tmp_path / "checkpoint"))
    weights = checkpoint / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    assert "model.safetensors" in built.fails("deploy", f"CHECKPOINT={checkpoint}")
    assert built.state() == before


def test_a_wrong_selection_is_one_clear_line(built):
    before = built.state()
    line = built.fails("engine", "SET=serving.rout=x")
    assert "serving.rout" in line
    assert "unknown key" in line
    assert built.state() == before


def test_an_unknown_key_in_a_recipe_is_named(built):
    path = built.directory / "engine/recipes/mine.toml"
    path.write_text("surprise = 1\n" + path.with_name("cpu.toml").read_text())
    line = built.fails("engine", "RECIPE=mine")
    assert "surprise" in line
    assert "engine/recipes/mine.toml" in line
    path.unlink()


@pytest.mark.long  # falconry/test_mistakes.py has it
def test_a_taken_port_is_one_clear_line(built):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        line = built.fails("deploy", f"SET=cloud.emulator.port={port}")
    assert str(port) in line
    assert built.processes() == []
