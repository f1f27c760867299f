"""Unmodified oci-cli, Oracle's own command line, speaks to a cloud here."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import oci
import pytest

from tests.local_oci.cli_calls import CLI, Call, table
from tests.local_oci.oracle_tools import CLI_CLIENT
from tests.local_oci.support import IMAGE, MODEL_FILES, LocalCloud, Sdk, run_cli, zipped

README = Path(__file__).parents[2] / "local_oci/README.md"


@pytest.fixture(scope="module")
def results(
    oracle_python: Path,
    sdk: Sdk,
    shared_cloud: LocalCloud,
    registry_cloud: LocalCloud,
    tmp_path_factory: pytest.TempPathFactory,
) -> list[dict[str, Any]]:
    """What came of each call, in their order."""
    directory = tmp_path_factory.mktemp("oci-cli")
    assert run_cli("session", f"--directory={shared_cloud.directory}", "--name=CLI").returncode == 0
    group, log = sdk.log()
    calls = [
        [f"@{call.name}" if call.name else "", _command(call, shared_cloud, registry_cloud)]
        for call in CLI
    ]
    asked = directory / "calls.json"
    asked.write_text(json.dumps({"values": _values(sdk, directory, group, log), "calls": calls}))
    finished = subprocess.run(
        [oracle_python, CLI_CLIENT, asked],
        env={
            **os.environ,
            "HOME": str(directory),
            "OCI_CLI_SUPPRESS_FILE_PERMISSIONS_WARNING": "True",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert finished.returncode == 0, finished.stderr
    found: list[dict[str, Any]] = json.loads(finished.stdout.splitlines()[-1])
    return found


def _command(call: Call, shared_cloud: LocalCloud, registry_cloud: LocalCloud) -> list[str]:
    """A call's argument list; those of the container registry go to a cloud that has one."""
    registry = call.words.startswith("artifacts container")
    cloud = registry_cloud if registry else shared_cloud
    tenancy = oci.config.from_file(str(cloud.directory / "config"))["tenancy"]
    options = [tenancy if each == "@tenancy" else each for each in call.options]
    address = ["--endpoint", cloud.endpoint] if call.addressed else []
    config = ["--config-file", str(cloud.directory / "config")]
    return [*call.words.split(), *options, *config, *address]


def _values(sdk: Sdk, directory: Path, group: str, log: str) -> dict[str, str]:
    """The values of options, by the names that stand for them."""
    source = directory / "source"
    source.mkdir()
    (source / "one").write_text("1")
    (source / "two").write_text("2")
    (directory / "large").write_bytes(bytes(3 << 20))
    (directory / "model.zip").write_bytes(zipped(MODEL_FILES))
    now = datetime.now(UTC)
    configuration = {
        "deploymentType": "SINGLE_MODEL",
        "modelConfigurationDetails": {
            "modelId": sdk.model(),
            "instanceConfiguration": {"instanceShapeName": "VM.Standard.E4.Flex"},
        },
        "environmentConfigurationDetails": {
            "environmentConfigurationType": "OCIR_CONTAINER",
            "image": IMAGE,
            "cmd": ["serve", "8000"],
            "serverPort": 8000,
            "healthCheckPort": 8000,
        },
    }
    return {
        "@user": sdk.config["user"],
        "@file": str(source / "one"),
        "@large": str(directory / "large"),
        "@out": str(directory / "out"),
        "@directory": str(source),
        "@out-directory": str(directory / "back"),
        "@zip": str(directory / "model.zip"),
        "@configuration": json.dumps(configuration),
        "@query": f'search "{sdk.compartment}/{group}/{log}" | sort by datetime desc',
        "@start": f"{now - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}",
        "@end": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "@projects": f"{sdk.cloud.endpoint}/20190101/projects?compartmentId={sdk.compartment}",
    }


@pytest.mark.parametrize("number", range(len(CLI)), ids=lambda number: CLI[number].words)
def test_a_command_works_or_is_answered_with_its_operation_s_name(
    results: list[dict[str, Any]], number: int
) -> None:
    call, result = CLI[number], results[number]
    said = f"{result['status']} {result['error']}"
    if call.absent:
        assert f"local_oci does not emulate the operation {call.absent}." in said
        assert '"status": 501' in said
    else:
        assert result["status"] == 0, said


def test_the_readme_has_the_table_of_all_calls() -> None:
    assert table() in README.read_text(encoding="utf-8"), "python -m tests.local_oci.cli_calls"
