"""What `make torture` says of processes, ends and rounds; that each round can fail."""

import sys
from random import Random

import pytest

from scripts.soak.exchange import References
from scripts.soak.load import CHECKPOINT
from scripts.torture.__main__ import report
from scripts.torture.checkout import Clone
from scripts.torture.rounds import Round, Torture
from scripts.torture.runs import NotRecoveredError, Run, State, remove_tree, role_of


@pytest.mark.parametrize(
    ("words", "role"),
    [
        (["make", "deploy"], "make"),
        (["/a/.venv/bin/python", "-m", "falconry", "deploy"], "falconry deploy"),
        (["/a/bin/python3.11", "-m", "local_oci", "serve", "--directory=/a"], "local_oci serve"),
        (["/a/bin/python", "/a/docker/server/front.py", "--port=1"], "front.py"),
        (["/a/bin/tritonserver", "--http-port=1"], "tritonserver"),
        (
            ["/a/triton_python_backend_stub", "/a/models/preprocessing/1/model.py", "x"],
            "stub of preprocessing",
        ),
        (["python", "-c", "import os\nos.fork()"], "python -c"),
    ],
)
def test_a_process_is_known_by_its_program(words, role):
    assert role_of(words) == role


def test_two_ends_differ_in_files_and_in_processes():
    whole = State({"a": "1", "b": "2"}, {"tritonserver": 1})
    assert whole.differences(whole) == ""
    other = State({"a": "1", "b": "3", "c": "4"}, {"tritonserver": 2, "front.py": 1})
    assert whole.differences(other) == "file b; file c; front.py: 0 → 1; tritonserver: 1 → 2"


def test_a_process_that_the_next_request_starts_may_be_absent_at_the_end():
    whole, fewer = (State({}, {"chat_process.py": count}) for count in (2, 1))
    assert whole.differences(fewer) == ""
    assert fewer.differences(whole) == "chat_process.py: 1 → 2"


class ScriptedClone(Clone):
    """A directory whose make is a script."""

    def __init__(self, directory, script):
        super().__init__(directory)
        (directory / "Makefile").write_text(
            f"deploy down query:\n\t@{sys.executable} -c '{script}'\n"
        )


def test_a_run_tells_its_stage_and_keeps_what_it_has_printed(tmp_path):
    script = 'print("✔ engine       made"); print("→ image        building")'
    clone = ScriptedClone(tmp_path, script)
    run = Run.start(clone, "deploy")
    while run.stage() == "the start":
        pass
    assert run.stage() == "image"
    result = run.end()
    assert "✔ engine" in result.output


def test_a_traceback_is_a_fault(tmp_path):
    clone = ScriptedClone(tmp_path, 'print("Traceback (most recent call last):"); exit(1)')
    with pytest.raises(NotRecoveredError, match="a traceback"):
        Run.start(clone, "deploy").end()


def test_a_deploy_that_cannot_be_mended_is_a_fault_of_its_round(tmp_path):
    clone = ScriptedClone(tmp_path, 'print("✘ no"); exit(1)')
    torture = Torture(clone, References(CHECKPOINT), Random(1))
    result = torture.play("nothing", lambda result: None)
    assert result.fault.startswith("make down: ✘ no")


def test_a_wrong_answer_is_a_fault_of_its_round(tmp_path):
    clone = ScriptedClone(tmp_path, 'print("Bananas are yellow.")')
    torture = Torture(clone, References(CHECKPOINT), Random(1))
    result = torture.play("nothing", lambda result: None)
    assert "a wrong answer: 'Bananas are yellow.'" in result.fault


def test_a_directory_with_read_only_parts_is_removed(tmp_path):
    inside = tmp_path / "build" / "store"
    inside.mkdir(parents=True)
    (inside / "file").write_text("x")
    inside.chmod(0o500)
    remove_tree(tmp_path / "build")
    assert not (tmp_path / "build").exists()


def test_the_report_counts_rounds_faults_and_signals():
    rounds = [
        Round("a small disk", moment="3 MB", seconds=2.0),
        Round("a small disk", moment="5 MB", seconds=4.0, down=True),
        Round("killed under load", victim="SIGKILL to front.py", seconds=3.0, outage_s=1.5),
        Round("killed under load", victim="SIGKILL to front.py", seconds=9.0, fault="no answer"),
    ]
    text = report(rounds, seed=7)
    assert "seed 7" in text
    assert "| a small disk | 2 | 1 | 1 | 3.0 s | 4.0 s | 0 |" in text
    assert "| killed under load | 2 | 1 | 0 | 6.0 s | 9.0 s | 1 |" in text
    assert "SIGKILL to front.py 2" in text
    assert "FAULT killed under load: SIGKILL to front.py : no answer" in text
