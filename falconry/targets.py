"""How an Invoke task gets its options and its project, and reports its result or its failure."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context
from invoke.exceptions import Exit, Failure
from invoke.tasks import task

from falconry.errors import OutputClosedError, SettingsError
from falconry.files import translate_disk_errors
from falconry.library_errors import ending
from falconry.progress import Progress

if TYPE_CHECKING:
    from falconry.project import Project

    # A function that loads the project which a task's options select.
    Select = Callable[..., Project]

ROOT = Path(__file__).resolve().parents[1]

# Options that choose what a task works on, with their help.
SELECTION = {
    "profile": "profiles/<name>.toml; local when left out",
    "recipe": "engine/recipes/<name>.toml, in place of the profile's",
    "checkpoint": "a Hugging Face Falcon directory, or hub:<repository>@<commit>",
    "engine_run": "host or job: where GPU engines are built, in place of the profile's",
    "override": 'any other value of the profile: "section.key=value ..."',
}
# Options whose variable is not called as they are.
VARIABLES = {"override": "FALCONRY_SET"}


def target(**options: str) -> Callable[[Callable[..., None]], Any]:
    """Makes an Invoke task whose failures are one line and an exit status.

    An unset option has the value of the variable FALCONRY_<OPTION>: so make passes options on. For
    a parameter `project` of the body the task has the options of SELECTION, and the body receives
    a function that loads the project they select.

    Args:
        options: the help texts of the body's own options.
    """

    def decorate(body: Callable[..., None]) -> Any:
        defaults: dict[str, Any] = {}
        for name, own in inspect.signature(body).parameters.items():
            defaults |= dict.fromkeys(SELECTION, "") if name == "project" else {name: own.default}
        selection = [name for name in SELECTION if "project" in inspect.signature(body).parameters]

        @functools.wraps(body)
        def run(c: Context, **given: Any) -> None:
            with failures_as_exits():
                values = {name: value_of(name, value) for name, value in given.items()}
                if selection:
                    selected = {name: values.pop(name) for name in selection}
                    values["project"] = functools.partial(load_project, **selected)
                body(c, **values)

        kind = inspect.Parameter.KEYWORD_ONLY
        parameters = [
            inspect.Parameter(name, kind, default=each) for name, each in defaults.items()
        ]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return task(help={**{name: SELECTION[name] for name in selection}, **options})(run)

    return decorate


@contextlib.contextmanager
def failures_as_exits() -> Iterator[None]:
    """Turns failures of any kind into a message of one line and an exit status."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # from here on Ctrl-C is a failure too
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with translate_disk_errors(ROOT / "build"):
            yield
    except (Exit, Failure):  # Invoke's own
        raise
    except (Exception, KeyboardInterrupt) as error:
        raise Exit(*ending(error, ROOT / "build")) from None


def run_program(line: str) -> None:
    """Runs a command line of a shell without any input, and ends with its status.

    Not by Invoke, which looks a hundred times a second whether it has ended.
    """
    with subprocess.Popen(["sh", "-c", line], stdin=subprocess.DEVNULL) as process:
        while process.returncode is None:
            with contextlib.suppress(KeyboardInterrupt):  # the program gets Ctrl-C too
                process.wait()
    if status := process.returncode:
        raise Exit(code=status if status > 0 else 128 - status)


def value_of(option: str, given: Any) -> Any:
    """Returns an option's value, from the environment where the option is unset.

    Args:
        option: its name.
        given: its value on the command line; an unset option has "", 0 or False.

    Raises:
        SettingsError: the variable of a number is not a positive number.
    """
    text = os.environ.get(VARIABLES.get(option, f"FALCONRY_{option.upper()}"), "")
    if given or not text:
        return given
    if isinstance(given, bool):
        return text != "0"
    if isinstance(given, str):
        return text
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise SettingsError(f"{text!r} is not a positive number", where=option.upper())
    return int(text)


def load_project(
    *overrides: str, profile: str, recipe: str, checkpoint: str, engine_run: str, override: str
) -> Project:
    """Loads the project that the options select, with further values `section.key=value`."""
    from falconry.project import Project
    from falconry.settings import load_settings

    chosen = [f"engine.run={shlex.quote(engine_run)}"] if engine_run else []
    settings = load_settings(
        ROOT,
        profile or "local",
        recipe=recipe,
        checkpoint=checkpoint,
        overrides=" ".join([override, *chosen, *overrides]),
    )
    os.chdir(ROOT)
    return Project(settings, Progress(sys.stderr if as_json() else sys.stdout))


def as_json() -> bool:
    """Whether `make JSON=1` requests results for programs."""
    return bool(value_of("json", False))


@contextlib.contextmanager
def ignore_closed_output() -> Iterator[None]:
    """Ends a printing task normally when its reader, such as `head`, closes the output."""
    with contextlib.suppress(OutputClosedError):
        yield


def print_result(result: Any, line: str) -> None:
    """Prints a task's result: a line for people, or with JSON=1 JSON for programs."""
    with ignore_closed_output():
        Progress().note(json.dumps(result, indent=1) if as_json() else line)
