"""Starts and stops local_oci, the stand-in for Oracle's cloud, as a program of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from falconry.errors import CloudError, MachineError
from falconry.image.process import prepare_process_image
from falconry.settings import EmulatorSettings

_ENDPOINT = "endpoint"


def endpoint(emulator: EmulatorSettings) -> str | None:
    """The running emulator's URL as it last wrote it; None when it was never started."""
    try:
        return (emulator.directory / _ENDPOINT).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def answers(emulator: EmulatorSettings) -> bool:
    """Whether the emulator runs: its port is asked, without a request."""
    url = urlsplit(endpoint(emulator) or "")
    if url.hostname is None or url.port is None:
        return False
    try:
        socket.create_connection((url.hostname, url.port), timeout=2).close()
    except OSError:
        return False
    return True


def start(emulator: EmulatorSettings, image: str) -> str:
    """Starts the emulator unless it runs.

    Args:
        emulator: where it keeps its state, and its port.
        image: the name under which deployments ask for the process image.

    Returns:
        Its URL.

    Raises:
        ServerError: this machine lacks something that the process image needs.
        MachineError: the emulator does not start, for instance because its port is taken.
    """
    directory = prepare_process_image(emulator.directory / "image")
    return _run(
        "start",
        *("--directory", str(emulator.directory.absolute())),
        *("--port", str(emulator.port)),
        *("--isolation", emulator.isolation),
        *("--image", f"{image}={directory.absolute()}"),
    )


def stop(emulator: EmulatorSettings) -> None:
    """Stops the emulator and every deployment that it runs; fine when it does not run.

    Raises:
        MachineError: it does not stop.
    """
    _run("stop", "--directory", str(emulator.directory.absolute()))


def require_endpoint(emulator: EmulatorSettings) -> str:
    """The running emulator's URL.

    Raises:
        CloudError: it is not running.
    """
    url = endpoint(emulator)
    if url is None or not answers(emulator):
        raise CloudError("the local cloud is not running", remedy="run: make deploy")
    return url


def _run(*arguments: str) -> str:
    """Runs local_oci's command line from the project's root and gives what it prints."""
    result = subprocess.run(
        [sys.executable, "-m", "local_oci", *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        reason = (result.stderr.strip() or result.stdout.strip()).removeprefix("local_oci: ")
        raise MachineError(f"the local cloud did not {arguments[0]}: {reason}")
    return result.stdout.strip()
