"""engine/answer.py run as a process, with stand-ins for tensorrt_llm, torch and transformers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from falconry.engine.toolchain import load_toolchains
from tests.engine.imports import imported_packages
from tests.stand_in_toolchain.image import install_stand_ins

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "engine" / "answer.py"
CHECKPOINT = ROOT / "checkpoints" / "tiny-falcon"
ROW = load_toolchains().row("25.10")
PROMPTS = [[5, 6, 7], [8]]


@pytest.fixture
def ask(tmp_path):
    """Asks for answers; gives the exit status and what was written."""
    environment = {**os.environ, **install_stand_ins(ROW.release, ROW, tmp_path / "image")}
    engine = tmp_path / "engine"
    engine.mkdir()

    def ask(who, *before, ranks=1, **more):
        mapping = {"world_size": ranks}
        config = {
            "pretrained_config": {"vocab_size": 768, "mapping": mapping},
            "build_config": {"max_seq_len": 64},
        }
        (engine / "config.json").write_text(json.dumps(config))
        question = {
            "prompts": PROMPTS,
            "new_tokens": 4,
            "end_id": -1,
            "pad_id": 0,
            "engine": str(engine),
            "checkpoint": str(CHECKPOINT),
            "dtype": "bfloat16",
        }
        path = tmp_path / "question.json"
        path.write_text(json.dumps(question))
        command = [*before, sys.executable, SCRIPT, who, path]
        ended = subprocess.run(
            command, env={**environment, **more}, capture_output=True, check=False
        )
        written = tmp_path / f"{who}_answers.json"
        return ended.returncode, json.loads(written.read_text()) if written.exists() else None

    return ask


def test_the_engine_and_transformers_give_the_ids_after_the_prompt(ask):
    status, engine = ask("engine")
    assert status == 0
    assert [len(answer) for answer in engine["answers"]] == [4, 4]
    assert ask("reference") == (0, engine)


def test_a_wrong_engine_answers_otherwise(ask):
    _, engine = ask("engine", STAND_IN_FAULT="ask engine:wrong")
    assert engine != ask("reference")[1]


def test_an_engine_that_does_not_load_is_a_failure(ask):
    assert ask("engine", STAND_IN_FAULT="ask engine:broken") == (1, None)


def test_transformers_that_does_not_answer_is_no_failure_but_told(ask):
    status, found = ask("reference", STAND_IN_FAULT="ask reference:broken")
    assert status == 0
    assert found["problem"].startswith("ValueError: ")


def test_of_several_ranks_the_first_reports(ask, tmp_path):
    mpirun = [tmp_path / "image/usr/local/bin/mpirun", "--oversubscribe", "-n", "2"]
    status, engine = ask("engine", *mpirun, ranks=2)
    assert (status, len(engine["answers"])) == (0, 2)


def test_is_python_3_12_and_imports_no_more_than_the_image_has():
    imported = imported_packages(SCRIPT)
    assert imported - set(sys.stdlib_module_names) == {"tensorrt_llm", "torch", "transformers"}
