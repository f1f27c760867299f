"""A registry without a password for tests: Debian's docker-registry on an ephemeral port."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import requests

from local_oci.runtime.docker_pull import split_reference
from tests.local_oci.support import wait_until

_PROGRAM = "docker-registry"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True, slots=True)
class PlainRegistry:
    """The registry as `local_oci` sees it."""

    host: str
    images: Path | None = None

    def login(self) -> dict[str, str]:
        return {"username": "anybody", "password": "anything"}

    async def digest_of(self, reference: str) -> str | None:
        repository, version = split_reference(reference)
        name = repository.removeprefix(f"{self.host}/")
        async with httpx.AsyncClient() as client:
            answer = await client.head(
                f"http://{self.host}/v2/{name}/manifests/{version}", headers={"accept": _MANIFEST}
            )
        return answer.headers["docker-content-digest"] if answer.is_success else None


@contextlib.contextmanager
def running_registry(directory: Path) -> Iterator[PlainRegistry]:
    """A registry that keeps its images in a directory."""
    if not shutil.which(_PROGRAM):
        pytest.skip(f"no registry; try apt-get install --no-install-recommends {_PROGRAM}")
    configuration, log = directory / "config.yml", directory / "log"
    configuration.write_text(
        "version: 0.1\n"
        "http: {addr: '127.0.0.1:0'}\n"
        "storage:\n"
        f"  filesystem: {{rootdirectory: '{directory}/images'}}\n"
        "  delete: {enabled: true}\n"
    )
    with log.open("wb") as output:
        process = subprocess.Popen(
            [_PROGRAM, "serve", configuration], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        port = wait_until(lambda: re.search(r"listening on 127.0.0.1:(\d+)", log.read_text()))[1]
        yield PlainRegistry(f"127.0.0.1:{port}", directory / "images")
    finally:
        process.terminate()
        process.wait(10)


def forget_last_layer(registry: PlainRegistry, name: str, digest: str) -> None:
    """Damage an image: its last layer is gone from the registry's disk."""
    answer = requests.get(
        f"http://{registry.host}/v2/{name}/manifests/{digest}",
        headers={"accept": _MANIFEST},
        timeout=5,
    )
    layer = answer.json()["layers"][-1]["digest"].removeprefix("sha256:")
    assert registry.images is not None
    (registry.images / f"docker/registry/v2/blobs/sha256/{layer[:2]}/{layer}/data").unlink()


def delete_image(registry: PlainRegistry, name: str, digest: str) -> None:
    """Take an image out of the registry."""
    answer = requests.delete(f"http://{registry.host}/v2/{name}/manifests/{digest}", timeout=5)
    answer.raise_for_status()
