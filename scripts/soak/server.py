"""A real Triton with the front, as in a container, that serves a repository on this machine."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from falconry.files import remove
from scripts.real_triton import Triton, running_with_all_ports


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    Attributes:
        triton: where it answers, and its process.
        slots: how many requests its engine answers at a time.
    """

    triton: Triton
    slots: int

    def metrics(self) -> dict[str, float]:
        """Its metrics by name, those of several labels added up."""
        found: dict[str, float] = {}
        with urllib.request.urlopen(f"{self.triton.url}/metrics", timeout=10) as answer:
            for line in answer.read().decode().splitlines():
                if line and not line.startswith("#"):
                    name, value = line.partition("{")[0].split()[0], line.split()[-1]
                    found[name] = found.get(name, 0.0) + float(value)
        return found


@contextlib.contextmanager
def serving(repository: Path, directory: Path) -> Iterator[Server]:
    """Serves a repository.

    Args:
        repository: an assembled one.
        directory: for the log and the server's image.

    Raises:
        ServerError: it does not start.
    """
    models = directory / "models"
    slots = _copy_with_little_cache(repository, models)
    with running_with_all_ports(models, directory) as triton:
        yield Server(triton, slots)


def _copy_with_little_cache(repository: Path, models: Path) -> int:
    """Copies a repository, with twice the cache that the slots need; gives the number of slots.

    The pool's memory is taken block by block as fresh ones are used, up to 2 GiB with the recipe
    `cpu` (OpenVINO GenAI 2026.4.1, measured). So a leak would be hidden behind it for hours.
    """
    remove(models)
    shutil.copytree(repository, models)
    place = models / "tensorrt_llm" / "1" / "engine.json"
    engine = json.loads(place.read_bytes())
    slots: int = engine["max_batch_size"]
    blocks = math.ceil(engine["max_seq_len"] / engine["kv_block_tokens"])
    engine["scheduler"]["num_kv_blocks"] = 2 * slots * blocks
    place.write_text(json.dumps(engine), encoding="utf-8")
    return slots
