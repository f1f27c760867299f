"""The server image: its size by layer, a push of what is pushed already, a container's start."""

from __future__ import annotations

import contextlib
import json
import re
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.bench.processes import BenchError, alternate, run
from scripts.bench.results import LessThan, Result
from scripts.bench.workplace import Workplace

if TYPE_CHECKING:
    from docker.client import DockerClient

    from falconry.image.registry import StoredImage

MEBIBYTE = 1 << 20
# 800 MB, as the engine counts.
SIZE = LessThan(round(800e6 / MEBIBYTE, 1))
PUSH = LessThan(2.0)
START = LessThan(6.0)

_REPOSITORY = "/opt/ds/model/deployed_model/model_repository"
_PORT = "8000/tcp"
_READY_DEADLINE_S = 60
_POLL_S = 0.02
_SHOWN_CHARACTERS = 48


def measure_server_image(workplace: Workplace, rounds: int) -> Iterator[Result]:
    """The CPU server image of the tiny Falcon's deployment; nothing where no engine answers.

    The push is what `make image` does when it has built an image that the registry holds: the
    engine asks for each layer, and the digest is read back. The start is from `docker run`, with
    what the contract allows, to the first 200 of /v2/health/ready at the published port.

    Raises:
        BenchError: something fails; no container and no cloud is left behind.
    """
    from falconry.docker_engine.connection import connect
    from falconry.errors import MachineError

    try:
        client = connect()
    except MachineError as error:
        print(f"server image: not measured, {error}")
        return
    workplace.copy_project()
    with contextlib.closing(client):
        try:
            print("making the server image", flush=True)
            models = Path(_made(workplace, "repository")["path"])
            reference = _made(workplace, "image")["summary"].split()[0]
            yield from _sizes(client, reference)
            yield _push(client, workplace, reference, rounds)
            yield _start(client, reference, workplace.copy / models, rounds)
            # Its layers stay for the next time, when the registry has another port.
            client.images.remove(reference, noprune=True)
        finally:
            run(_make(workplace, "down"), workplace.copy)


def _make(workplace: Workplace, target: str) -> list[str]:
    checkpoint = workplace.root / "checkpoints" / "tiny-falcon"
    words = ["make", target, "PROFILE=local", "RECIPE=cpu", f"CHECKPOINT={checkpoint}"]
    return [*words, "SET=image.run=container"]


def _made(workplace: Workplace, target: str) -> dict[str, str]:
    """What a target says that it made."""
    made: dict[str, str] = json.loads(run([*_make(workplace, target), "JSON=1"], workplace.copy))
    return made


def _sizes(client: DockerClient, reference: str) -> Iterator[Result]:
    image = client.images.get(reference)
    whole = {"uncompressed": [image.attrs["Size"] / MEBIBYTE]}
    yield Result("server image", "MiB", whole, target=SIZE)
    for layer in reversed(image.history()):
        if layer["Size"]:
            size = {"uncompressed": [layer["Size"] / MEBIBYTE]}
            yield Result(f"  layer {_words(layer)}", "MiB", size)


def _words(layer: Mapping[str, Any]) -> str:
    """A layer's instruction, without the shell and the digests of what was copied."""
    said = " ".join(str(layer["CreatedBy"]).removeprefix("/bin/sh -c ").split())
    short = re.sub(r"#\(nop\) |(dir|file|multi):[0-9a-f]+ in ", "", said) or "base"
    return short if len(short) <= _SHOWN_CHARACTERS else f"{short[: _SHOWN_CHARACTERS - 1]}…"


def _push(client: DockerClient, workplace: Workplace, reference: str, rounds: int) -> Result:
    from falconry.cloud.container_registry import OcirDoor
    from falconry.docker_engine.references import ImageReference
    from falconry.image.push import push
    from falconry.settings import load_settings

    cloud = workplace.copy / "build" / "local" / "cloud"
    overrides = f"cloud.config_file={cloud}/config cloud.emulator.directory={cloud}"
    settings = load_settings(workplace.copy, overrides=overrides)
    namespaces = workplace.copy / "build" / "namespaces.json"
    place = OcirDoor(settings.cloud, settings.image.registry, namespaces).open()
    repository = ImageReference.parse(reference).repository

    def again() -> float:
        started = time.perf_counter()
        stored: StoredImage = push(
            client, reference, lambda: place.credentials(repository), lambda step, fraction: None
        )
        elapsed = time.perf_counter() - started
        if not stored.layers:
            raise BenchError(f"{reference} has no layers in the registry")
        return elapsed

    samples = alternate("pushing an unchanged image", rounds, {"push": again})
    return Result("push of an unchanged image", "s", samples, target=PUSH)


def _start(client: DockerClient, reference: str, models: Path, rounds: int) -> Result:
    samples = alternate(
        "starting a container", rounds, {"docker run": lambda: _ready(client, reference, models)}
    )
    return Result("container start to ready, tiny Falcon", "s", samples, target=START)


def _ready(client: DockerClient, reference: str, models: Path) -> float:
    """Seconds from `docker run` to ready, confined as local_oci confines a deployment."""
    started = time.perf_counter()
    container = client.containers.run(
        reference,
        detach=True,
        read_only=True,
        tmpfs={"/tmp": "exec,mode=1777"},
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        volumes={str(models): {"bind": _REPOSITORY, "mode": "ro"}},
        ports={_PORT: ("127.0.0.1", None)},
    )
    try:
        container.reload()
        port = container.attrs["NetworkSettings"]["Ports"][_PORT][0]["HostPort"]
        url = f"http://127.0.0.1:{port}/v2/health/ready"
        while time.perf_counter() - started < _READY_DEADLINE_S:
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return time.perf_counter() - started
            time.sleep(_POLL_S)
        lines = container.logs().decode(errors="replace").splitlines()
        raise BenchError(f"the container was not ready: {lines[-1] if lines else 'no output'}")
    finally:
        container.remove(force=True, v=True)
