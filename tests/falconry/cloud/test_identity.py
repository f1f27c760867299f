"""As whom requests are signed: each kind with the SDK's own signers."""

import base64
import json
import os
import time

import oci
import pytest
import requests

from falconry.cloud import identity as identity_module
from falconry.cloud.identity import identity_of
from falconry.errors import CloudError
from falconry.settings import load_settings
from tests.falconry.cloud.conftest import ROOT


@pytest.fixture
def config(cloud):
    return oci.config.from_file(str(cloud.directory / "config"))


def settings_for(auth, file="nowhere"):
    return load_settings(ROOT, overrides=f"cloud.auth={auth} cloud.config_file={file}").cloud


def key_id_of(identity):
    """The key that a signature names (oci/signer.py); the SDK's clients take the identity."""
    assert oci.data_science.DataScienceClient(identity.config, signer=identity.signer)
    signer = identity.signer
    request = requests.Request("GET", "https://example.com/").prepare()
    return signer(request).headers["authorization"].split('keyId="')[1].split('"')[0]


@pytest.fixture
def session_file(tmp_path, config):
    """What `oci session authenticate` writes."""
    token = tmp_path / "token"
    token.write_text("first.token\n")
    file = tmp_path / "config"
    file.write_text(
        f"[DEFAULT]\ntenancy={config['tenancy']}\nregion=us-ashburn-1\n"
        f"key_file={config['key_file']}\nsecurity_token_file={token}\n"
    )
    return file


def test_an_api_key_signs_as_its_user(cloud, config):
    identity = identity_of(settings_for("api_key", cloud.directory / "config"))
    expected = "/".join(config[name] for name in ("tenancy", "user", "fingerprint"))
    assert key_id_of(identity) == expected
    assert identity.tenancy == config["tenancy"]


def test_a_session_token_signs_in_place_of_a_user(session_file, config):
    identity = identity_of(settings_for("session_token", session_file))
    assert key_id_of(identity) == "ST$first.token"
    assert (identity.tenancy, identity.region) == (config["tenancy"], "us-ashburn-1")


def test_a_renewed_session_token_is_used_at_once(session_file, tmp_path):
    identity = identity_of(settings_for("session_token", session_file))
    (tmp_path / "token").write_text("second.token")
    os.utime(tmp_path / "token", (time.time() + 5,) * 2)
    assert key_id_of(identity) == "ST$second.token"


def test_a_session_without_a_token_says_how_to_get_one(session_file, tmp_path):
    (tmp_path / "token").unlink()
    with pytest.raises(CloudError, match="oci session authenticate"):
        identity_of(settings_for("session_token", session_file))


def test_an_api_keys_file_is_no_session(cloud):
    with pytest.raises(CloudError, match="security_token_file missing"):
        identity_of(settings_for("session_token", cloud.directory / "config"))


def test_a_signer_is_made_once(cloud, session_file):
    for auth, file in (("api_key", cloud.directory / "config"), ("session_token", session_file)):
        settings = settings_for(auth, file)
        assert identity_of(settings).signer is identity_of(settings).signer


def test_a_resource_signs_with_its_own_token(monkeypatch, config):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    claims = {"exp": int(time.time()) + 3600, "res_tenant": config["tenancy"]}
    token = f"{part({'alg': 'none'})}.{part(claims)}.c2ln"
    variables = {
        "VERSION": "2.2",
        "RPST": token,
        "PRIVATE_PEM": config["key_file"],
        "REGION": "eu-frankfurt-1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"OCI_RESOURCE_PRINCIPAL_{name}", value)
    identity_module._resource.cache_clear()
    identity = identity_of(settings_for("resource_principal"))
    identity_module._resource.cache_clear()
    assert key_id_of(identity) == f"ST${token}"
    assert (identity.tenancy, identity.region) == (config["tenancy"], "eu-frankfurt-1")


def test_what_is_no_resource_says_so(monkeypatch):
    monkeypatch.delenv("OCI_RESOURCE_PRINCIPAL_VERSION", raising=False)
    with pytest.raises(CloudError, match="works in a resource of Oracle's cloud"):
        identity_of(settings_for("resource_principal"))


def test_what_is_no_instance_says_so(monkeypatch):
    def nobody(*arguments, **named):
        raise oci._vendor.requests.exceptions.ConnectTimeout("no metadata service")

    signers = oci.auth.signers
    monkeypatch.setattr(signers, "InstancePrincipalsSecurityTokenSigner", nobody)
    with pytest.raises(CloudError, match="works only on an instance of Oracle's cloud"):
        identity_of(settings_for("instance_principal"))
