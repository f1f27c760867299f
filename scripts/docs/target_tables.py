"""The table of make's targets with their options, from tasks.py."""

from __future__ import annotations

import tasks
from falconry.targets import SELECTION
from scripts.docs.markdown import code, table


def target_table() -> str:
    """Each target: what it does, and its own options beside those that select a project."""
    rows = []
    for name, task in sorted(tasks.namespace.tasks.items()):
        own, selects = [], False
        for argument in task.get_arguments():
            option = argument.attr_name or argument.name
            if option in SELECTION:
                selects = True
            else:
                own.append(f"{code(_variable(option))} {argument.help or ''}".rstrip())
        title = code(f"make {name}") + (" ●" if selects else "")
        rows.append((title, str(task.__doc__).splitlines()[0], "; ".join(own)))
    return table(("target", "what it does", "options"), rows)


def _variable(option: str) -> str:
    named = {"command": "CMD", "override": "SET"}
    return f"{named.get(option, option.upper())}="
