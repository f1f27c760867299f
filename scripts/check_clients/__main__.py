"""Runs other people's clients, unmodified, against the served model; writes a table of the results.

    .venv/bin/python -m scripts.check_clients [--only NAME ...] [--nvidia DIRECTORY[@REVISION]]

Clients and versions are in clients.toml. Each one has an environment of its own below
build/check-clients, from PyPI or npm; tokenizers are local, and nothing comes from a hub. Without
--nvidia, a checkout of triton-inference-server/tensorrtllm_backend, its clients are left out. The
table in docs/compatibility.md keeps the rows of clients that did not run this time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from falconry.errors import FalconryError, format_error
from falconry.pipeline import Workspace
from falconry.progress import Progress
from falconry.settings import load_settings
from scripts.bench.processes import BenchError
from scripts.check_clients.clients import Client, Outcome, checkout_of, load_clients
from scripts.check_clients.table import merged, read_table, write_table
from scripts.real_triton import Triton, assembled_repository, running_with_all_ports

_ROOT = Path(__file__).resolve().parents[2]
_TABLE = _ROOT / "docs" / "compatibility.md"
_BUILD = _ROOT / "build" / "check-clients"
_USAGE_ERROR = 2
_DATASET = [{"input": "", "instruction": "What is photosynthesis?", "output": "Light to sugar."}]


def main(arguments: Sequence[str]) -> int:
    """Checks and prints; returns 0 if every client passed, 1 if not, 2 if none could be run."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.check_clients",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--nvidia", metavar="DIRECTORY[@REVISION]")
    options = parser.parse_args(arguments)
    clients = [each for each in load_clients() if not options.only or each.name in options.only]
    if not clients:
        names = ", ".join(each.name for each in load_clients())
        print(f"check_clients: no such client; there are {names}", file=sys.stderr)
        return _USAGE_ERROR
    try:
        with tempfile.TemporaryDirectory(prefix="check-clients-") as directory:
            outcomes = _check(clients, options.nvidia, Path(directory))
    except (BenchError, FalconryError) as error:
        said = format_error(error) if isinstance(error, FalconryError) else error
        print(f"check_clients: {said}", file=sys.stderr)
        return _USAGE_ERROR
    print(f"written to {_TABLE.relative_to(_ROOT)}")
    return 0 if all(each.passed is not False for each in outcomes) else 1


def _check(clients: Sequence[Client], nvidia: str | None, directory: Path) -> list[Outcome]:
    """Each client's outcome against one server."""
    checkout = checkout_of(nvidia, directory / "nvidia") if nvidia else None
    settings = load_settings(_ROOT, checkpoint=str(_ROOT / "checkpoints" / "tiny-falcon"))
    workspace = Workspace.open(_ROOT / "build" / settings.profile, Progress(sys.stdout))
    repository = assembled_repository(settings, workspace)
    date = datetime.now(UTC).date().isoformat()
    outcomes = []
    with running_with_all_ports(repository, directory) as server:
        values = _values(server, directory)
        for client in clients:
            if client.nvidia and checkout is None:
                print(f"{client.name}: left out, pass --nvidia with a checkout", flush=True)
                continue
            outcome = client.run(_BUILD, values, checkout, date)
            print(f"{client.name}: {outcome.result}", flush=True)
            outcomes.append(outcome)
            write_table(_TABLE, merged(read_table(_TABLE), outcomes, load_clients()))
    return outcomes


def _values(server: Triton, directory: Path) -> dict[str, str]:
    """What clients.toml may name."""
    with urllib.request.urlopen(f"{server.url}/v1/models", timeout=10) as answer:
        model = json.load(answer)["data"][0]["id"]
    dataset = directory / "dataset.json"
    dataset.write_text(json.dumps(_DATASET), encoding="utf-8")
    return {
        "url": server.url,
        "host": server.url.removeprefix("http://"),
        "grpc": server.grpc,
        "model": model,
        "tokenizer": str(_ROOT / "checkpoints" / "tiny-falcon"),
        "tasks": str(Path(__file__).parent / "tasks"),
        "dataset": str(dataset),
        "work": str(directory / "work"),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
