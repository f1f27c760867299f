"""Small container images for tests: this machine's Python, a program, a Dockerfile's words."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.stand_in_toolchain.image import python_image

# Oracle runs the health check in the container, by curl; that it is there is all that is asked.
STAND_IN_CURL = "#!/usr/bin/python3\nprint('STAND-IN, not curl.')\n"


@contextlib.contextmanager
def container_image(
    client: Any, tag: str, program: Path, instructions: list[str], *, curl: bool = True
) -> Iterator[str]:
    """An image with the program at /app/serve.py; it is removed afterwards.

    Args:
        client: a docker.DockerClient.
        tag: the image's reference.
        program: a Python program.
        instructions: what a Dockerfile has after the program is there.
        curl: whether there is something that is called curl.
    """
    with tempfile.TemporaryDirectory() as name:
        context = Path(name)
        shutil.copy(program, context / "serve.py")
        lines = [f"FROM {python_image(client)}", "COPY serve.py /app/serve.py"]
        if curl:
            (context / "curl").write_text(STAND_IN_CURL)
            (context / "curl").chmod(0o755)
            lines.append("COPY curl /usr/bin/curl")
        (context / "Dockerfile").write_text("\n".join([*lines, *instructions]))
        client.images.build(path=name, tag=tag, rm=True)
    try:
        yield tag
    finally:
        client.images.remove(tag, force=True)


def push(client: Any, reference: str, auth_token: str) -> str:
    """Push an image to a cloud's registry, as its user; gives the digest.

    Args:
        client: a docker.DockerClient that has the image under this reference alone.
        reference: with the registry's host.
        auth_token: of the user.
    """
    login = {"username": "localoci/local_oci", "password": auth_token}
    for event in client.images.push(reference, auth_config=login, stream=True, decode=True):
        assert "error" not in event, event
    (named,) = client.images.get(reference).attrs["RepoDigests"]
    return str(named.partition("@")[2])
