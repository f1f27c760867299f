"""Every request is signed by the one user, whole, and now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import oci
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.local_oci.support import REPOSITORY


def _other_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _signed(sdk, method: str, path: str, signer=None, headers=None, **options):
    request = requests.Request(
        method, f"{sdk.cloud.endpoint}{path}", headers=headers, auth=signer or sdk.signer, **options
    )
    return request.prepare()


def _send(request: requests.PreparedRequest) -> requests.Response:
    return requests.Session().send(request, timeout=10)


def _refusal(response: requests.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


def test_the_config_file_is_a_secret_profile_that_the_sdk_accepts(sdk) -> None:
    directory = sdk.cloud.directory
    assert (directory.stat().st_mode & 0o777) == 0o700
    for name in ("config", "api_key.pem"):
        assert ((directory / name).stat().st_mode & 0o777) == 0o600
    oci.config.validate_config(sdk.config)


def test_a_client_without_an_endpoint_cannot_reach_a_host_of_oracle(sdk) -> None:
    client = oci.data_science.DataScienceClient(sdk.config)
    host = client.base_client.endpoint.split("/")[2]
    assert "_" in host  # not allowed in a host name, so there is none with this name


@pytest.mark.parametrize("path", ["/n", "/20190101/models?compartmentId=x", "/ocid1.x/predict"])
def test_a_request_without_a_signature_is_refused(sdk, path: str) -> None:
    response = requests.get(f"{sdk.cloud.endpoint}{path}", timeout=10)
    assert _refusal(response) == (401, "NotAuthenticated")


def test_a_request_signed_with_another_key_is_refused(sdk) -> None:
    config = sdk.config
    signer = oci.signer.Signer(
        config["tenancy"],
        config["user"],
        config["fingerprint"],
        private_key_file_location=None,
        private_key_content=_other_key(),
    )
    assert _refusal(_send(_signed(sdk, "GET", "/n", signer))) == (401, "NotAuthenticated")


def test_a_request_of_another_user_is_refused(sdk) -> None:
    config = {**sdk.config, "user": "ocid1.user.oc1..somebodyelse"}
    signer = oci.signer.Signer.from_config(config)
    assert _refusal(_send(_signed(sdk, "GET", "/n", signer))) == (401, "NotAuthenticated")


def test_a_request_whose_path_was_changed_is_refused(sdk) -> None:
    request = _signed(sdk, "GET", "/n")
    request.url = f"{request.url}?compartmentId=other"
    assert _refusal(_send(request)) == (401, "NotAuthenticated")


def test_a_body_that_was_changed_after_signing_is_refused(sdk) -> None:
    body = b'{"compartmentId": "a", "displayName": "b"}'
    request = _signed(
        sdk, "POST", "/20190101/projects", data=body, headers={"content-type": "application/json"}
    )
    assert _send(request).status_code == 200
    request.body = body.replace(b'"b"', b'"c"')
    assert _refusal(_send(request)) == (401, "NotAuthenticated")


def test_a_body_whose_hash_is_not_signed_is_refused(sdk) -> None:
    request = _signed(
        sdk,
        "POST",
        "/20190101/projects",
        signer=sdk.signer.without_content_headers,
        data=b"{}",
        headers={"content-type": "application/json"},
    )
    assert _refusal(_send(request)) == (401, "NotAuthenticated")


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_request_with_a_skewed_clock_is_refused(sdk, minutes: int) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), usegmt=True)
    response = _send(_signed(sdk, "GET", "/n", headers={"date": date}))
    assert _refusal(response) == (401, "NotAuthenticated")


def test_a_request_with_a_clock_that_is_a_little_off_is_accepted(sdk) -> None:
    date = format_datetime(datetime.now(UTC) - timedelta(minutes=4), usegmt=True)
    assert _send(_signed(sdk, "GET", "/n", headers={"date": date})).status_code == 200


def test_a_body_without_a_length_is_refused(sdk) -> None:
    def parts():
        yield b"{}"

    response = requests.post(f"{sdk.cloud.endpoint}/20190101/projects", data=parts(), timeout=10)
    assert _refusal(response) == (411, "LengthRequired")


def test_a_response_carries_the_request_id_of_the_client(sdk) -> None:
    response = _send(_signed(sdk, "GET", "/n", headers={"opc-request-id": "ABC"}))
    assert response.headers["opc-request-id"] == "ABC"


def test_an_unknown_path_and_an_unknown_method_are_told_apart(sdk) -> None:
    assert _refusal(_send(_signed(sdk, "GET", "/20190101/falcons"))) == (404, "NotFound")
    assert _refusal(_send(_signed(sdk, "DELETE", "/n"))) == (405, "MethodNotAllowed")


def test_the_program_imports_neither_the_sdk_nor_the_library() -> None:
    package = REPOSITORY / "local_oci"
    sources = [path.read_text() for path in package.rglob("*.py")]
    assert sources
    assert not any("import oci\n" in text or "falconry" in text for text in sources)
