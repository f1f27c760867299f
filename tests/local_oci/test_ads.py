"""Unmodified oracle-ads, Oracle's own client, takes a model to an answering deployment here."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.kept import kept
from tests.local_oci.support import IMAGE, MODEL_FILES, LocalCloud, Sdk, zipped

LOCK = Path(__file__).with_name("ads_requirements.lock")
CLIENT = Path(__file__).with_name("ads_client.py")
# What pip says when it finds no registry, in the order in which it comes to that.
UNREACHABLE = (
    "Could not find a version that satisfies",
    "No matching distribution found",
    "Max retries exceeded",
    "Temporary failure in name resolution",
)


@pytest.fixture(scope="session")
def ads_python() -> Path:
    """Python with what the lock pins; kept between runs, so nothing may be written there."""
    digest = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()
    return _python_in(kept("oracle-ads", digest, _install, works=_works))


def _python_in(environment: Path) -> Path:
    return environment / "bin" / "python"


def _install(environment: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = _python_in(environment)
    installing = subprocess.run(
        [
            *(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            # The client imports a small part of it, which is compiled below.
            *("--no-compile", "--no-deps", "--require-hashes", "--requirement", LOCK),
        ],
        capture_output=True,
        text=True,
    )
    if installing.returncode != 0:
        reason = f"oracle-ads cannot be installed:\n{installing.stderr}"
        if os.environ.get("CI") or not any(words in reason for words in UNREACHABLE):
            pytest.fail(reason)
        pytest.skip(reason)
    _compile(python)


def _compile(python: Path) -> None:
    """Write the bytecode of what the client imports, whatever this process may write."""
    importing = f"import runpy; runpy.run_path({str(CLIENT)!r})"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run([python, "-c", importing], env=environment, check=True, capture_output=True)


def _works(environment: Path) -> bool:
    looking = "import importlib.metadata; importlib.metadata.version('oracle-ads')"
    try:
        return subprocess.run([_python_in(environment), "-B", "-c", looking]).returncode == 0
    except OSError:
        return False


@pytest.fixture(scope="session")
def run(
    ads_python: Path,
    sdk: Sdk,
    shared_cloud: LocalCloud,
    tmp_path_factory: pytest.TempPathFactory,
) -> subprocess.CompletedProcess[str]:
    """One run of the client."""
    directory = tmp_path_factory.mktemp("ads")
    artifact = directory / "model.zip"
    artifact.write_bytes(zipped(MODEL_FILES))
    group, log = sdk.log()
    given = {
        "config": str(shared_cloud.directory / "config"),
        "compartment": sdk.compartment,
        "project": sdk.project(),
        "artifact": str(artifact),
        "image": IMAGE,
        "log_group": group,
        "log": log,
    }
    finished = subprocess.run(
        [ads_python, CLIENT, json.dumps(given)],
        env={
            **os.environ,
            "OCI_ODSC_SERVICE_ENDPOINT": shared_cloud.endpoint,
            "MPLCONFIGDIR": str(directory),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert finished.returncode == 0, finished.stderr
    return finished


@pytest.fixture(scope="session")
def told(run: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What the client found."""
    return json.loads(run.stdout.splitlines()[-1])


def test_it_creates_a_model_with_an_artifact(sdk: Sdk, told: dict[str, Any]) -> None:
    model = sdk.data_science.get_model(told["model"]).data
    assert (model.display_name, model.description) == ("of ads", "made by oracle-ads")
    assert model.freeform_tags == {"made_by": "ads"}
    content = sdk.data_science.get_model_artifact_content(told["model"]).data.content
    with zipfile.ZipFile(io.BytesIO(content)) as package:
        assert {name: package.read(name) for name in package.namelist()} == MODEL_FILES


def test_it_deploys_and_watches_the_work_request_to_its_end(
    run: subprocess.CompletedProcess[str], told: dict[str, Any]
) -> None:
    assert told["state"] == "ACTIVE"
    assert told["deployment"] in told["listed"]
    # ADS shows the last step of the work request as the label of its progress bar.
    assert "Model Deployment is Active." in run.stdout + run.stderr


def test_it_predicts(told: dict[str, Any]) -> None:
    assert json.loads(told["answer"]["body"]) == {"prompt": "hello"}
    assert told["answer"]["files"] == [
        "model_repository",
        "model_repository/echo",
        "model_repository/echo/config.pbtxt",
    ]


def test_it_shows_the_access_log(run: subprocess.CompletedProcess[str]) -> None:
    assert "POST /predict 1.1" in run.stdout


def test_it_tells_of_a_container_that_ends_at_once(told: dict[str, Any]) -> None:
    assert told["failure"]["state"] == "FAILED"
    assert "the container exited with status 3" in told["failure"]["details"]


def test_it_stops_and_starts_the_deployment(told: dict[str, Any]) -> None:
    assert (told["deactivated"], told["activated"]) == ("INACTIVE", "ACTIVE")


def test_it_deletes_no_model_that_is_deployed(told: dict[str, Any]) -> None:
    assert told["in_use"] == "ACTIVE"


def test_it_takes_the_deployment_down(sdk: Sdk, told: dict[str, Any]) -> None:
    assert sdk.state(told["deployment"]) == "DELETED"


def test_it_deletes_a_model(told: dict[str, Any]) -> None:
    assert told["deleted_model"] == "DELETED"


def test_it_deletes_a_model_with_its_deployment(told: dict[str, Any]) -> None:
    assert told["deleted_together"] == ["DELETED", "DELETED"]
