"""The table of make's targets with their options, from tasks.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import tasks
from falconry.targets import SELECTION
from scripts.docs.markdown import code, table

# Options whose variable is not called as they are.
_VARIABLES = {"command": "CMD", "override": "SET"}


@dataclass(frozen=True, slots=True)
class Target:
    """A target of make.

    Attributes:
        text: what it does.
        options: help texts by the names of make's variables.
    """

    name: str
    text: str
    options: Mapping[str, str]


@cache  # an Invoke task gives its options' help once only
def targets() -> tuple[Target, ...]:
    """All targets, by their names."""
    found = []
    for name, task in sorted(tasks.namespace.tasks.items()):
        options = {
            variable(each.attr_name or each.name): each.help or "" for each in task.get_arguments()
        }
        found.append(Target(name, str(task.__doc__).splitlines()[0], options))
    return tuple(found)


def variable(option: str) -> str:
    """The variable of make that sets an option of a task."""
    return _VARIABLES.get(option, option.upper())


def target_table() -> str:
    """Each target: what it does, and its own options beside those that select a project."""
    selection = {variable(option) for option in SELECTION}
    rows = []
    for each in targets():
        own = [
            f"{code(f'{name}=')} {text}".rstrip()
            for name, text in each.options.items()
            if name not in selection
        ]
        mark = " ●" if selection <= each.options.keys() else ""
        rows.append((f"{code(f'make {each.name}')}{mark}", each.text, "; ".join(own)))
    return table(("target", "what it does", "options"), rows)
