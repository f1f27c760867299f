"""Tests that belong together run on one worker, and are marked by what they use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
FIXTURES = """
import os, time
import pytest

@pytest.fixture
def docker_engine():
    time.sleep(0.01)

@pytest.fixture
def by_another(docker_engine):
    pass

@pytest.fixture
def docker_registry():
    pass

@pytest.fixture
def triton():
    pass

@pytest.fixture(autouse=True)
def tell(request, record_property):
    marks = {mark.name for mark in request.node.iter_markers()} - {"usefixtures", "xdist_group"}
    with open(OUT, "a") as file:
        file.write(f"{request.node.name.partition('@')[0]} {os.getpid()} {sorted(marks)}\\n")
"""
ONE = """
import pytest

@pytest.mark.parametrize("n", range(20))
def test_engine(by_another, n): pass

@pytest.mark.parametrize("n", range(20))
def test_plain(n): pass

@pytest.mark.slow
def test_long(): pass
"""
OTHER = """
import pytest

def test_engine_too(docker_engine): pass
def test_registry(docker_registry): pass
def test_server(triton): pass

@pytest.mark.xdist_group("apart")
@pytest.mark.parametrize("n", range(20))
def test_apart(n): pass
"""
END_TO_END = "def test_make(docker_engine): pass"


@pytest.fixture
def told(tmp_path):
    """Runs the tests above on some workers; gives (test, process, marks) as they ran."""

    def run(*arguments):
        out = tmp_path / "out"
        files = {
            "conftest.py": FIXTURES.replace("OUT", repr(str(out))),
            "tests/test_one.py": ONE,
            "tests/test_other.py": OTHER,
            "tests/end_to_end/test_end.py": END_TO_END,
        }
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-p", "tests.grouping", "--dist=loadgroup"),
                *("--no-loadscope-reorder", "-p", "no:cacheprovider", "--strict-markers"),
                *("--import-mode=importlib", *arguments),
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        lines = [line.split(" ", 2) for line in out.read_text().splitlines()]
        return [(name.partition("[")[0], process, marks) for name, process, marks in lines]

    return run


def test_a_group_runs_on_one_worker(told):
    ran = told("-n3")
    processes = {}
    for name, process, _ in ran:
        processes.setdefault(name, set()).add(process)
    engine = processes["test_engine"] | processes["test_engine_too"] | processes["test_make"]
    assert len(engine) == 1
    assert len(processes["test_plain"]) == 1
    assert len(processes["test_apart"]) == 1
    assert len(set().union(*processes.values())) > 1


def test_markers_come_from_what_a_test_uses(told):
    marks = {name: each for name, _, each in told("-n0")}
    assert marks == {
        "test_engine": "['docker', 'parametrize']",
        "test_plain": "['parametrize', 'unit']",
        "test_long": "['slow']",
        "test_engine_too": "['docker']",
        "test_registry": "['docker']",
        "test_server": "['server']",
        "test_apart": "['parametrize', 'unit']",
        "test_make": "['docker', 'e2e']",
    }


def test_fast_tests_come_first_on_one_process(told):
    names = list(dict.fromkeys(name for name, _, _ in told("-n0")))
    assert names.index("test_plain") < names.index("test_make")
