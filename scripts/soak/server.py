"""A real Triton with the front, as in a container, that serves a repository on this machine."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from falconry.errors import ServerError
from falconry.files import remove
from falconry.image.process import prepare_process_image

_START_DEADLINE_S = 120
_STOP_DEADLINE_S = 30


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    Attributes:
        url: its HTTP, which is the front's.
        grpc: `HOST:PORT` of its gRPC.
        pid: the process above all others of it.
        log: what it says.
        slots: how many requests its engine answers at a time.
    """

    url: str
    grpc: str
    pid: int
    log: Path
    slots: int

    def metrics(self) -> dict[str, float]:
        """Its metrics by name, those of several labels added up."""
        found: dict[str, float] = {}
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:
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
        ServerError: it does not start; with the log's last line.
    """
    http, grpc, metrics = _free_ports(3)
    log, models = directory / "triton.log", directory / "models"
    slots = _copy_with_little_cache(repository, models)
    arguments = [
        f"--model-repository={models}",
        "--http-address=127.0.0.1",
        f"--http-port={http}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={grpc}",
        "--metrics-address=127.0.0.1",
        f"--metrics-port={metrics}",
    ]
    launcher = prepare_process_image(directory / "image") / "bin" / "tritonserver"
    with log.open("wb") as output:
        process = subprocess.Popen([launcher, *arguments], stdout=output, stderr=subprocess.STDOUT)
    server = Server(f"http://127.0.0.1:{http}", f"127.0.0.1:{grpc}", process.pid, log, slots)
    try:
        _wait_until_ready(server, process)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(_STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


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


def _wait_until_ready(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            if urllib.request.urlopen(f"{server.url}/v2/health/ready", timeout=5).status == 200:
                return
        time.sleep(0.1)
    *_, last = ["", *server.log.read_text(encoding="utf-8", errors="replace").splitlines()]
    raise ServerError(f"Triton did not start: {last[:300]}", where=server.log)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in sockets]
