"""docs/compatibility.md: one row a client, kept from run to run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from falconry.files import atomic_write_text
from scripts.check_clients.clients import Client, Outcome

_HEAD = """# Clients that work with a deployment

`make check-clients` runs these clients as their makers publish them, each in an environment of its
own under `build/check-clients`, against a real Triton behind the front with the tiny Falcon on the
CPU engine. It writes this table; a row keeps its date until its client runs again.
"""
_COLUMNS = ("client", "versions", "tried", "result", "date")
_NOT_RUN = "not run yet"


def read_table(path: Path) -> dict[str, tuple[str, ...]]:
    """The rows of an earlier run, by their client; none without the file."""
    if not path.is_file():
        return {}
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    cells = [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in lines[2:]]
    return {row[0]: row for row in cells if len(row) == len(_COLUMNS)}


def merged(
    earlier: dict[str, tuple[str, ...]], outcomes: Iterable[Outcome], clients: Sequence[Client]
) -> list[tuple[str, ...]]:
    """A row for each client: of this run, of an earlier one, or that it has not run."""
    new = {
        each.client: (each.client, each.versions, each.does, each.result, each.date)
        for each in outcomes
    }
    rows = {**earlier, **new}
    return [rows.get(each.name, _unknown(each)) for each in clients]


def write_table(path: Path, rows: Iterable[tuple[str, ...]]) -> None:
    """Writes the document."""
    lines = [_COLUMNS, tuple("---" for _ in _COLUMNS), *rows]
    table = "\n".join("| " + " | ".join(_cell(each) for each in row) + " |" for row in lines)
    atomic_write_text(path, f"{_HEAD}\n{table}\n")


def _unknown(client: Client) -> tuple[str, ...]:
    versions = ", ".join(each.replace("==", " ") for each in client.packages)
    return (client.name, versions, client.does, _NOT_RUN, "")


def _cell(text: str) -> str:
    """A text that cannot end its cell."""
    return " ".join(text.replace("|", "/").split())
