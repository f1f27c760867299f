"""The wheel, installed where no checkout is, has all that programs need of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.local_oci.support import REPOSITORY

NO_CODE = {"__pycache__", "README.md"}
ORIGIN = """
import falconry, local_oci
for package in (falconry, local_oci):
    print(package.__file__)
"""
ASK = """
import sys
from falconry.endpoint import openai_client
print(openai_client(sys.argv[1]).models.with_raw_response.list().text)
"""
LOAD_RECIPE = """
import falconry.errors
from falconry.engine.spec import load_recipe
try:
    load_recipe("cpu")
except falconry.errors.FalconryError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target=wheel"]
    subprocess.run([*command, f"--directory={directory}"], cwd=REPOSITORY, check=True)
    (found,) = directory.glob("*.whl")
    return found


@dataclass(frozen=True)
class Installed:
    """The wheel's files in a directory that nothing else is in."""

    directory: Path

    def run(self, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Runs a program that finds these packages before any other, to its end."""
        return subprocess.run(
            words,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(self.directory)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def python(self, program: str, *arguments: str, cwd: Path) -> str:
        """Runs a program that must succeed, and gives what it prints."""
        done = self.run(sys.executable, "-P", "-c", program, *arguments, cwd=cwd)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    directory = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-index", "--no-compile", f"--target={directory}", str(wheel)]
    subprocess.run(command, check=True)
    return Installed(directory)


def test_the_wheel_holds_both_packages_with_their_data_and_nothing_else(wheel: Path) -> None:
    expected = {
        path.relative_to(REPOSITORY).as_posix()
        for package in ("falconry", "local_oci")
        for path in (REPOSITORY / package).rglob("*")
        if path.is_file() and not NO_CODE & set(path.parts)
    }
    assert {"falconry/py.typed", "local_oci/py.typed"} <= expected
    assert any(name.endswith(".toml") for name in expected)
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    assert {name for name in packed if ".dist-info/" not in name} == expected


def test_both_packages_are_imported_from_the_wheel(installed: Installed, tmp_path: Path) -> None:
    lines = installed.python(ORIGIN, cwd=tmp_path).splitlines()
    assert lines == [
        str(installed.directory / package / "__init__.py") for package in ("falconry", "local_oci")
    ]


@pytest.mark.parametrize("by_path", [False, True])
def test_the_openai_client_answers_from_the_wheel(
    installed: Installed,
    profile: Callable[..., Path],
    deployment: Any,
    tmp_path: Path,
    by_path: bool,
) -> None:
    path = profile(deployment.display_name)
    named = str(path) if by_path else path.stem
    answer = installed.python(ASK, named, cwd=tmp_path)
    assert json.loads(answer) == {"path": "/v1/models", "method": "GET"}


def test_what_needs_the_checkout_says_so_in_one_line(installed: Installed, tmp_path: Path) -> None:
    assert installed.python(LOAD_RECIPE, cwd=tmp_path) == (
        f"{installed.directory}: the project's engine/recipes is missing: "
        "falconry is installed without it; run this from a checkout of the project"
    )


def test_local_oci_is_a_command_that_serves_a_cloud(installed: Installed, tmp_path: Path) -> None:
    command = str(installed.directory / "bin" / "local-oci")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return installed.run(command, *words, "--directory=cloud", cwd=tmp_path)

    started = run("start")
    try:
        assert started.returncode == 0, started.stderr
        assert run("status").stdout.startswith(f"running at {started.stdout.strip()}")
    finally:
        stopped = run("stop")
    assert stopped.stdout.strip() == "stopped"
    assert run("status").returncode == 3
