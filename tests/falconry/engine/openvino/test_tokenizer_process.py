"""The process that converts the tokenizer: what comes of it, and that it never outlives us."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from falconry.engine.openvino.tokenizer import tokenizer_conversion
from falconry.errors import CheckpointError, EngineError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[4]


def children() -> set[int]:
    files = Path("/proc/self/task").glob("*/children")
    return {int(pid) for file in files for pid in file.read_text().split()}


def runs(pid: int) -> bool:
    """Whether a process is there and not just waiting for its parent to ask how it ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def ends(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not runs(pid)


@pytest.fixture
def checkpoint(families: Path, tmp_path: Path) -> Path:
    """A good checkpoint, to be spoilt."""
    return shutil.copytree(families / "falcon-7b", tmp_path / "a checkpoint")


def set_tokenizer_config(checkpoint: Path, **values: Any) -> None:
    path = checkpoint / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_relative_paths_with_spaces_are_found(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output = Path("an engine")
    output.mkdir()
    with tokenizer_conversion(Path(checkpoint.name), output) as converted:
        converted()

    assert {"openvino_tokenizer.xml", "openvino_detokenizer.xml"} < set(os.listdir(output))


def test_tokens_that_only_transformers_adds_are_counted(checkpoint: Path, tmp_path: Path) -> None:
    def token_ids() -> int:
        with tokenizer_conversion(checkpoint, tmp_path) as converted:
            return converted()

    before = token_ids()
    set_tokenizer_config(checkpoint, additional_special_tokens=["<|one more|>"])

    assert token_ids() == before + 1


def test_damaged_settings_of_the_tokenizer_are_one_sentence(
    checkpoint: Path, tmp_path: Path
) -> None:
    (checkpoint / "tokenizer_config.json").write_text("{")

    with (
        pytest.raises(CheckpointError, match="tokenizer is not accepted by transformers") as error,
        tokenizer_conversion(checkpoint, tmp_path) as converted,
    ):
        converted()
    assert str(error.value).startswith(f"{checkpoint}: ")
    assert "\n" not in str(error.value)


def test_a_process_that_is_killed_is_one_sentence(checkpoint: Path, tmp_path: Path) -> None:
    before = children()
    with tokenizer_conversion(checkpoint, tmp_path) as converted:
        (pid,) = children() - before
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(EngineError, match="its process ended with -9"):
            converted()


def test_a_process_that_is_stopped_is_one_sentence(checkpoint: Path, tmp_path: Path) -> None:
    before = children()
    with tokenizer_conversion(checkpoint, tmp_path) as converted:
        (pid,) = children() - before
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(EngineError, match=f"the tokenizer's process {pid} is stopped"):
            converted()
    assert ends(pid)


def test_the_process_ends_when_the_build_fails(checkpoint: Path, tmp_path: Path) -> None:
    before = children()
    with pytest.raises(ZeroDivisionError), tokenizer_conversion(checkpoint, tmp_path):
        (pid,) = children() - before
        raise ZeroDivisionError

    assert not runs(pid)
    assert children() == before


def test_the_process_ends_when_its_parent_is_killed(checkpoint: Path, tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, threading, time\n"
        "from falconry.engine.openvino.tokenizer import tokenizer_conversion\n"
        "checkpoint, output = map(pathlib.Path, sys.argv[1:])\n"
        "with tokenizer_conversion(checkpoint, output):\n"
        "    thread = threading.get_native_id()\n"
        "    print(open(f'/proc/self/task/{thread}/children').read(), flush=True)\n"
        "    time.sleep(60)\n"
    )
    output = tmp_path / "engine"
    output.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", program, checkpoint, output], cwd=ROOT, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        parent.kill()

    assert ends(pid)
    assert os.listdir(output) == []  # so it did not just come to its end
