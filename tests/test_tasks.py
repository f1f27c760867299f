"""How options reach the Invoke tasks: from the command line, or from make by the environment."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.makefile import MAKEFILE, words_of

ROOT = Path(__file__).parents[1]
# Makes a task of its own, as those of tasks.py are made, and prints the options that it receives.
PROGRAM = """
import json, sys
from invoke.context import Context
from falconry.targets import target

@target()
def example(c, name: str = "", command: str = "", override: str = "", number: int = 0,
            most: int = 128, quick: bool = False):
    print(json.dumps([name, command, override, number, most, quick]))

defaults = {"name": "", "command": "", "override": "", "number": 0, "most": 128, "quick": False}
example(Context(), **{**defaults, **json.loads(sys.argv[1])})
"""
# Prints the variables that the tasks' options are read from.
VARIABLES = """
import tasks
from falconry.targets import VARIABLES

for task in tasks.namespace.tasks.values():
    for each in task.get_arguments():
        name = each.attr_name or each.name
        print(VARIABLES.get(name, f"FALCONRY_{name.upper()}"))
"""


@pytest.fixture
def received():
    """Gives the options that a task receives."""

    def run(given=None, **environment):
        kept = {name: text for name, text in os.environ.items() if "FALCONRY_" not in name}
        named = {f"FALCONRY_{name}": value for name, value in environment.items()}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, json.dumps(given or {})],
            cwd=ROOT,
            env={**kept, **named},
            capture_output=True,
            text=True,
            check=False,
        )
        return json.loads(done.stdout) if done.returncode == 0 else done.stderr

    return run


def test_an_unset_option_has_the_value_of_its_variable(received):
    values = received(NAME="a $b", COMMAND="c", SET="d=1", NUMBER="7", QUICK="1")
    assert values == ["a $b", "c", "d=1", 7, 128, True]


def test_an_option_without_a_variable_has_its_default(received):
    assert received() == ["", "", "", 0, 128, False]
    assert received(NAME="", NUMBER="", QUICK="") == ["", "", "", 0, 128, False]


def test_an_option_of_the_command_line_comes_first(received):
    given = {"name": "x", "number": 3, "quick": True}
    assert received(given, NAME="y", NUMBER="many", QUICK="0") == ["x", "", "", 3, 128, True]


def test_a_flag_of_0_is_off(received):
    assert received(QUICK="0")[-1] is False


LONG = "1" * 5_000


@pytest.mark.parametrize("text", ["many", "0", "-1", "1.5", LONG], ids=lambda text: text[:9])
def test_a_number_that_is_not_positive_is_refused(received, text):
    said = received(NUMBER=text)
    assert f"NUMBER: '{text[:500]}" in said  # long lines are shortened
    assert f"{text[-500:]}' is not a positive number" in said


def test_make_passes_every_option_on_as_typed(tmp_path):
    names = options_of_make()
    typed = {name: f"{name} $HOME $(shell touch expanded) $$ 'quoted' \"twice\"" for name in names}
    makefile = tmp_path / "Makefile"
    makefile.write_text(
        f"include {MAKEFILE}\nshow:\n\t@{sys.executable} -c "
        "'import json, os; print(json.dumps(dict(os.environ)))'\n"
    )
    words = [f"{name}={text}" for name, text in typed.items()]
    done = subprocess.run(
        ["make", "--no-print-directory", "-f", makefile, "show", "CMD=run $it", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    passed_on = json.loads(done.stdout)
    assert {name: passed_on[f"FALCONRY_{name}"] for name in names} == typed
    assert passed_on["FALCONRY_COMMAND"] == "run $it"
    assert not (tmp_path / "expanded").exists()


def test_every_option_of_make_is_one_of_a_task():
    done = subprocess.run(
        [sys.executable, "-c", VARIABLES], cwd=ROOT, capture_output=True, text=True, check=True
    )
    read = {*done.stdout.split(), "FALCONRY_JSON"}
    assert {f"FALCONRY_{name}" for name in options_of_make()} | {"FALCONRY_COMMAND"} <= read


def helped(**run):
    command = [sys.executable, "-m", "invoke", "help"]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "COLUMNS": "80"}, check=True, **run)


def test_help_fits_the_terminal_and_has_a_line_a_target_in_a_pipe(tmp_path):
    terminal, theirs = os.openpty()
    helped(stdout=theirs)
    os.close(theirs)
    shown = b""
    while b"target's options" not in shown:
        shown += os.read(terminal, 4096)
    os.close(terminal)
    assert max(map(len, shown.decode().splitlines())) <= 80
    with (tmp_path / "piped").open("w+") as piped:
        helped(stdout=piped)
        piped.seek(0)
        lines = [line for line in piped if line.startswith("  make ")]
    assert [line.split()[1] for line in lines] == sorted(words_of("TARGETS"))


def options_of_make():
    names = words_of("OPTIONS")
    assert {"PROMPT", "BODY", "SET"} <= set(names)
    return names
