"""Runs an image and an artifact under the container contract: local_oci's check, as a program."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from falconry.data_files import CODE_DIRECTORY


@dataclass(frozen=True, slots=True)
class Trial:
    """What is to be run.

    Attributes:
        image: its reference.
        artifact: a zip, or a directory with what would be in one.
        command: in place of the image's own; empty for that.
        environment: of the deployment; no secrets, since it is on a command line.
        port: of the server and the health check.
        timeout_s: how long it may take to become healthy; None for the cloud's own limit.
    """

    image: str
    artifact: Path
    command: Sequence[str]
    environment: Mapping[str, str]
    port: int
    timeout_s: int | None = None


def keeps_contract(trial: Trial, *, as_json: bool) -> bool:
    """Runs the check, which prints a line for each thing that it looked at.

    Args:
        trial: what is to be run.
        as_json: whether it prints JSON instead.

    Returns:
        Whether the contract is kept.
    """
    words = [f"--image={trial.image}", f"--artifact={trial.artifact.absolute()}"]
    words += [f"--port={trial.port}"]
    words += [f"--cmd={word}" for word in trial.command]
    words += [f"--env={name}={value}" for name, value in trial.environment.items()]
    words += [f"--timeout={trial.timeout_s}"] if trial.timeout_s else []
    words += ["--json"] if as_json else []
    command = [sys.executable, "-m", "local_oci", "check-image", *words]
    return subprocess.run(command, cwd=CODE_DIRECTORY, check=False).returncode == 0
