"""Oracle's own clients, unmodified, in an environment of their own: oci-cli and oracle-ads."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.kept import kept
from tests.local_oci.cli_calls import SERVICES

LOCK = Path(__file__).with_name("oracle_requirements.lock")
ADS_CLIENT = Path(__file__).with_name("ads_client.py")
CLI_CLIENT = Path(__file__).with_name("cli_client.py")
# What pip says when it finds no registry, in the order in which it comes to that.
UNREACHABLE = (
    "Could not find a version that satisfies",
    "No matching distribution found",
    "Max retries exceeded",
    "Temporary failure in name resolution",
)


def oracle_tools() -> Path:
    """Python with what the lock pins; kept between runs, so nothing may be written there."""
    digest = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()
    return _python_in(kept("oracle-tools", digest, _install, works=_works))


def _python_in(environment: Path) -> Path:
    return environment / "bin" / "python"


def _install(environment: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = _python_in(environment)
    installing = subprocess.run(
        [
            *(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            # The clients import a small part of it, which is compiled below.
            *("--no-compile", "--no-deps", "--require-hashes", "--requirement", LOCK),
        ],
        capture_output=True,
        text=True,
    )
    if installing.returncode != 0:
        reason = f"Oracle's tools cannot be installed:\n{installing.stderr}"
        if os.environ.get("CI") or not any(words in reason for words in UNREACHABLE):
            pytest.fail(reason)
        pytest.skip(reason)
    _compile(python)


def _compile(python: Path) -> None:
    """Write the bytecode of what the clients import, whatever this process may write."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    importing = f"import runpy; runpy.run_path({str(ADS_CLIENT)!r})"
    subprocess.run([python, "-c", importing], env=environment, check=True, capture_output=True)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"values": {}, "calls": [["", [each, "--help"]] for each in SERVICES]}, file)
        file.flush()
        run = [python, CLI_CLIENT, file.name]
        subprocess.run(run, env=environment, check=True, capture_output=True)


def _works(environment: Path) -> bool:
    looking = (
        "import importlib.metadata as found; found.version('oracle-ads'); found.version('oci-cli')"
    )
    try:
        return subprocess.run([_python_in(environment), "-B", "-c", looking]).returncode == 0
    except OSError:
        return False
