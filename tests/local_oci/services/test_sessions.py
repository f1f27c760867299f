"""The SDK's other ways of signing: session tokens, resource principals, instance principals."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import oci
import pytest
import requests

from tests.local_oci.support import LocalCloud, Sdk, refusal, run_cli

REFUSED = (401, "NotAuthenticated")


def _session(cloud: LocalCloud, *arguments: str) -> str:
    made = run_cli("session", f"--directory={cloud.directory}", *arguments)
    assert made.returncode == 0, made.stderr
    return made.stdout


def _variables(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in shlex.split(text))


def _token_signer(cloud: LocalCloud, profile: str) -> tuple[dict[str, Any], Any]:
    """What the SDK's documents do with a profile of `oci session authenticate`."""
    config = oci.config.from_file(str(cloud.directory / "config"), profile)
    token = Path(config["security_token_file"]).read_text()
    key = oci.signer.load_private_key_from_file(config["key_file"])
    return config, oci.auth.signers.SecurityTokenSigner(token, key)


def _storage(sdk: Sdk, signer: Any) -> Any:
    return sdk.client(oci.object_storage.ObjectStorageClient, signer=signer)


def test_a_session_of_the_user_is_a_profile_that_signs(sdk: Sdk, shared_cloud: LocalCloud) -> None:
    _session(shared_cloud)
    config, signer = _token_signer(shared_cloud, "SESSION")
    assert (config["tenancy"], config["region"]) == (sdk.compartment, "local_oci")
    lines = (shared_cloud.directory / "config").read_text().splitlines()
    assert sum(line.startswith("tenancy") for line in lines) == 1
    assert _storage(sdk, signer).get_namespace().data == "localoci"
    project = sdk.client(oci.data_science.DataScienceClient, signer=signer).create_project(
        oci.data_science.models.CreateProjectDetails(compartment_id=sdk.compartment)
    )
    assert project.data.lifecycle_state == "ACTIVE"
    assert oci.config.from_file(str(shared_cloud.directory / "config")) == sdk.config
    for file in (config["security_token_file"], config["key_file"]):
        assert (Path(file).stat().st_mode & 0o777) == 0o600


def test_a_session_that_is_over_is_refused(sdk: Sdk, shared_cloud: LocalCloud) -> None:
    _session(shared_cloud, "--name=OVER", "--lifetime=0")
    _, signer = _token_signer(shared_cloud, "OVER")
    assert refusal(_storage(sdk, signer).get_namespace) == REFUSED


def test_a_token_is_good_for_its_own_key_and_its_own_cloud(
    sdk: Sdk, shared_cloud: LocalCloud, new_cloud
) -> None:
    _session(shared_cloud)
    _session(shared_cloud, "--name=OTHER")
    other, _ = _token_signer(shared_cloud, "OTHER")
    token = Path(other["security_token_file"]).read_text()
    own, _ = _token_signer(shared_cloud, "SESSION")
    key = oci.signer.load_private_key_from_file(own["key_file"])
    mixed = oci.auth.signers.SecurityTokenSigner(token, key)
    assert refusal(_storage(sdk, mixed).get_namespace) == REFUSED
    elsewhere = new_cloud()
    _session(elsewhere)
    _, foreign = _token_signer(elsewhere, "SESSION")
    assert refusal(_storage(sdk, foreign).get_namespace) == REFUSED
    nonsense = oci.auth.signers.SecurityTokenSigner("no.to.ken", key)
    assert refusal(_storage(sdk, nonsense).get_namespace) == REFUSED


def test_a_resource_principal_signs(
    sdk: Sdk, shared_cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in _variables(_session(shared_cloud, "--kind=resource")).items():
        monkeypatch.setenv(name, value)
    signer = oci.auth.signers.get_resource_principals_signer()
    assert (signer.tenancy_id, signer.region) == (sdk.compartment, "local_oci")
    assert _storage(sdk, signer).get_namespace().data == "localoci"


def _instance_signer(cloud: LocalCloud) -> Any:
    return oci.auth.signers.InstancePrincipalsSecurityTokenSigner(
        federation_endpoint=f"{cloud.endpoint}/v1/x509",
        federation_client_retry_strategy=oci.retry.NoneRetryStrategy(),
        federation_client_circuit_breaker_strategy=oci.circuit_breaker.NoCircuitBreakerStrategy(),
    )


def test_an_instance_principal_signs(
    sdk: Sdk, shared_cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = _variables(_session(shared_cloud, "--kind=instance"))
    monkeypatch.setenv("OCI_METADATA_BASE_URL", variables["OCI_METADATA_BASE_URL"])
    signer = _instance_signer(shared_cloud)
    assert (signer.tenancy_id, signer.region) == (sdk.compartment, "local_oci")
    assert _storage(sdk, signer).get_namespace().data == "localoci"
    signer.refresh_security_token()
    assert _storage(sdk, signer).get_namespace().data == "localoci"


def test_the_metadata_is_for_those_who_know_its_address(shared_cloud: LocalCloud) -> None:
    _session(shared_cloud, "--kind=instance")
    for headers in ({}, {"authorization": "Bearer Oracle"}):
        url = f"{shared_cloud.endpoint}/_local/metadata/guess/identity/key.pem"
        assert requests.get(url, headers=headers, timeout=5).status_code == 404


def test_an_instance_of_another_cloud_gets_no_session(
    shared_cloud: LocalCloud, new_cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = _variables(_session(new_cloud(), "--kind=instance"))
    monkeypatch.setenv("OCI_METADATA_BASE_URL", variables["OCI_METADATA_BASE_URL"])
    assert refusal(lambda: _instance_signer(shared_cloud)) == REFUSED


def test_an_instance_needs_a_cloud_that_runs(tmp_path: Path) -> None:
    refused = run_cli("session", f"--directory={tmp_path}", "--kind=instance")
    assert refused.returncode == 1
    assert "start it first" in refused.stderr


@pytest.mark.parametrize("name", ["DEFAULT", "a/b", ""])
def test_a_session_needs_a_name_of_its_own(tmp_path: Path, name: str) -> None:
    assert run_cli("session", f"--directory={tmp_path}", f"--name={name}").returncode == 2
