"""Questions signed as each kind of identity that a profile may choose, checked by local_oci."""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import oci
import pytest

from falconry.cloud import identity as identity_module
from falconry.cloud.identity import identity_of
from falconry.endpoint import Endpoint
from falconry.endpoint.openai_api import openai_client_of
from falconry.settings import CloudSettings
from tests.local_oci.support import LocalCloud, run_cli

Signer = Callable[[str], Any]


@pytest.fixture
def signer(scripted_cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Signer]:
    """Makes the signer of a kind of identity, which local_oci's command has given a session."""

    def session(kind: str) -> None:
        made = run_cli("session", f"--directory={scripted_cloud.directory}", f"--kind={kind}")
        assert made.returncode == 0, made.stderr
        for line in shlex.split(made.stdout) if kind != "user" else []:
            monkeypatch.setenv(*line.split("=", 1))

    def make(auth: str) -> Any:
        session({"session_token": "user"}.get(auth, auth.removesuffix("_principal")))
        # Where Oracle's federation is cannot be set but here.
        local = functools.partial(
            oci.auth.signers.InstancePrincipalsSecurityTokenSigner,
            federation_endpoint=f"{scripted_cloud.endpoint}/v1/x509",
        )
        monkeypatch.setattr(oci.auth.signers, "InstancePrincipalsSecurityTokenSigner", local)
        settings = CloudSettings(
            auth=auth,
            config_file=scripted_cloud.directory / "config",
            config_profile="SESSION",
            project="p",
            log_group="g",
            log="l",
        )
        return identity_of(settings).signer

    for made in (identity_module._instance, identity_module._resource):
        made.cache_clear()
    yield make
    for made in (identity_module._instance, identity_module._resource):
        made.cache_clear()


EVENTS = "v2/models/tensorrt_llm_bls/generate_stream"
KINDS = ["session_token", "resource_principal", "instance_principal"]


@pytest.mark.parametrize("auth", KINDS)
def test_questions_are_signed_as_a_session_a_resource_or_an_instance(
    signer: Signer, deployment: Any, script: Any, auth: str
) -> None:
    endpoint = Endpoint(deployment.model_deployment_url, signer(auth))
    assert endpoint.predict({"a": "Füchse"}, suffix="/other")["body"] == {"a": "Füchse"}
    stream = endpoint.pieces(script("data: Füchse\n\n".encode()), EVENTS)
    assert list(stream) == ["Füchse"]
    endpoint.close()


@pytest.mark.parametrize("auth", KINDS)
def test_the_openai_client_is_signed_so_as_well(signer: Signer, deployment: Any, auth: str) -> None:
    client = openai_client_of(deployment.model_deployment_url, signer(auth))
    answer = client.models.with_raw_response.list()
    assert json.loads(answer.text)["path"] == "/v1/models"
