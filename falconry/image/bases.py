"""The images that ours are built from: held by the engine, pulled, or made on this machine."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING

from falconry.data_files import project_file
from falconry.errors import ImageError

if TYPE_CHECKING:
    from docker.client import DockerClient

# What scripts/base_image.sh makes; no registry has it.
MADE_HERE = "falconry-base"
_SCRIPT = "scripts/base_image.sh"

Report = Callable[[str, float | None], None]


def bring_base(client: DockerClient, reference: str, report: Report) -> str:
    """Sees to it that the engine has a base image.

    Args:
        client: of the engine.
        reference: of the image; `falconry-base:...` is made here by scripts/base_image.sh.
        report: called with the step and how much is done.

    Returns:
        The reference with the digest by which a registry knows the image, if one does.

    Raises:
        ImageError: it cannot be pulled or made.
        MachineError: the engine does not answer.
    """
    # Imported here: who asks only whether a base is made here must not pay for it.
    from falconry.docker_engine.images import has_image, pull, reference_with_digest
    from falconry.docker_engine.references import ImageReference

    if not has_image(client, reference):
        if ImageReference.parse(reference).name == MADE_HERE:
            _make(reference, report)
        else:
            pull(client, reference, lambda done: report(f"pulling {reference}", done))
    return reference_with_digest(client, reference)


def _make(reference: str, report: Report) -> None:
    report("making the base image, about a minute", None)
    result = subprocess.run(
        ["sh", str(project_file(_SCRIPT)), reference],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        lines = (result.stderr.strip() or result.stdout.strip()).splitlines()
        raise ImageError(
            f"the base image could not be made ({lines[-1] if lines else 'no reason given'})",
            where=reference,
            remedy="run scripts/base_image.sh as root, or take another Debian 12:"
            " SET=image.base=debian:bookworm-slim",
        )
