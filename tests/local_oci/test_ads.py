"""Unmodified oracle-ads, Oracle's own client, takes a model to an answering deployment here."""

from __future__ import annotations

import io
import json
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.local_oci.support import IMAGE, MODEL_FILES, LocalCloud, Sdk, zipped

CLIENT = Path(__file__).with_name("ads_client.py")


def _run(
    oracle_python: Path,
    sdk: Sdk,
    shared_cloud: LocalCloud,
    tmp_path_factory: pytest.TempPathFactory,
    *,
    further: bool,
) -> subprocess.CompletedProcess[str]:
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
        "further": further,
    }
    finished = subprocess.run(
        [oracle_python, CLIENT, json.dumps(given)],
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
def run(
    oracle_python: Path,
    sdk: Sdk,
    shared_cloud: LocalCloud,
    tmp_path_factory: pytest.TempPathFactory,
) -> subprocess.CompletedProcess[str]:
    """A model's way to an answer and its end, by the client."""
    return _run(oracle_python, sdk, shared_cloud, tmp_path_factory, further=False)


@pytest.fixture(scope="session")
def told(run: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What the client found."""
    return json.loads(run.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def further(
    oracle_python: Path,
    sdk: Sdk,
    shared_cloud: LocalCloud,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """What the client found with all that its users call."""
    finished = _run(oracle_python, sdk, shared_cloud, tmp_path_factory, further=True)
    return json.loads(finished.stdout.splitlines()[-1])


# Each step of ADS reads the private key anew: a tenth of a second's work, and it looks often.
# What ADS calls in them, the SDK calls in tests/local_oci/services.
further_calls = pytest.mark.long


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


@further_calls
def test_it_tells_of_a_container_that_ends_at_once(further: dict[str, Any]) -> None:
    assert further["failure"]["state"] == "FAILED"
    assert "the container exited with status 3" in further["failure"]["details"]


@further_calls
def test_it_stops_and_starts_the_deployment(further: dict[str, Any]) -> None:
    assert (further["deactivated"], further["activated"]) == ("INACTIVE", "ACTIVE")


def test_it_deletes_no_model_that_is_deployed(told: dict[str, Any]) -> None:
    assert told["in_use"] == "ACTIVE"


def test_it_takes_the_deployment_down(sdk: Sdk, told: dict[str, Any]) -> None:
    assert sdk.state(told["deployment"]) == "DELETED"


@further_calls
def test_it_lists_changes_and_brings_back_what_it_made(further: dict[str, Any]) -> None:
    worked = further["worked"]
    assert worked["model from_id"] == "renamed"
    assert worked["model"] in worked["models"]
    assert worked["models as a table"] >= 1
    assert worked["downloaded"] == ["model_repository"]
    assert worked["version set from_id"] and worked["version sets"]
    assert further["deployment"] in worked["deployments"]
    assert worked["deployment"] == "updated"
    assert worked["job"].startswith("ocid1.datasciencejob.")


@further_calls
def test_it_cannot_reach_buckets_here_as_the_readme_says(further: dict[str, Any]) -> None:
    bucket = further["worked"]["bucket"]
    assert bucket == "https://objectstorage.local_oci.oraclecloud.com"


@further_calls
def test_it_deletes_a_model(further: dict[str, Any]) -> None:
    assert further["deleted_model"] == "DELETED"


@further_calls
def test_it_deletes_a_model_with_its_deployment(further: dict[str, Any]) -> None:
    assert further["deleted_together"] == ["DELETED", "DELETED"]
