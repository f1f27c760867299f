"""Requests that are wrong in one part: refused as the client's fault, soon, and in JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from email.utils import formatdate
from pathlib import Path

import pytest

from local_oci.http.errors import ServiceError
from local_oci.http.messages import attachment, natural_number, parse_time, read_json
from local_oci.http.queries import split_words
from local_oci.http.signatures import SignedRequest, key_id_of
from local_oci.services.logs.search_routes import parse as parse_log_query
from local_oci.services.resource_search.routes import parse as parse_resource_query
from scripts.fuzz.cloud_client import Answer, Cloud, Request
from scripts.fuzz.exploring import time_limit
from tests.local_oci.support import LocalCloud, Sdk

_LOG = ".log"
_HANG_S = 10.0


def _numbered(value: object) -> str:
    """The name of a case: its beginning, and how long it is."""
    text = repr(value)
    return f"{text[:20]} of {len(text)}"


@pytest.fixture(scope="session")
def client(shared_cloud: LocalCloud) -> Cloud:
    """Any bytes as a request to the shared cloud."""
    directory = shared_cloud.directory
    return Cloud(directory, directory.parent / f"{directory.name}{_LOG}")


def _asked(client: Cloud, request: Request) -> tuple[int, Mapping[str, str]]:
    client.new_log()
    answer = client.send(request)
    assert answer is not None, "no answer"
    log = client.new_log()
    assert "Traceback" not in log, log
    return answer.status, json.loads(answer.body) if answer.body else {}


def _posted(client: Cloud, path: str, body: bytes) -> tuple[int, Mapping[str, str]]:
    return _asked(client, Request(b"POST", path.encode(), body=body))


# --- pure -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *("[" * 100_000, '{"a":' * 100_000, "9" * 5000, "[1e999]", "[-1e999]", "NaN", "[Infinity]"),
        *('"\\ud800"', '{"\\udc00": 1}', str(2**63), str(-(2**64)), "", "{", "[1,]"),
        *(b'"\xed\xa0\x80"', b"\xff\xfe1\x00", b"\x1f\x8b\x08\x00junk"),
    ],
    ids=_numbered,
)
def test_json_that_not_every_reader_can_hold_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_json(text)


def test_json_of_the_largest_integer_is_read() -> None:
    assert read_json(f'{{"a": [{2**63 - 1}, 1.5, "ключ", null, true]}}') == {
        "a": [2**63 - 1, 1.5, "ключ", None, True]
    }


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", " 1", "1.0", "²", "٣", "9" * 19, "9" * 5000], ids=_numbered
)
def test_what_is_no_number_of_a_header_is_none(text: str) -> None:
    assert natural_number(text) is None


@pytest.mark.parametrize(
    "text",
    [
        *("2026-01-01T00:00:00", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"),
        *("2026-01-01T00:00:00+99:99", "9" * 5000, "\0", ""),
    ],
    ids=_numbered,
)
def test_a_time_that_is_none_in_utc_is_refused(text: str) -> None:
    with pytest.raises(ServiceError) as refused:
        parse_time(text, "timeStart")
    assert refused.value.status == 400


def test_a_file_name_of_any_characters_fits_into_a_header() -> None:
    assert attachment("model.zip") == 'attachment; filename="model.zip"'
    assert attachment('a"b\r\nc: d ключ').isascii()
    assert "\n" not in attachment("a\nb")


def _head(authorization: str) -> SignedRequest:
    return SignedRequest("GET", "/n", {"authorization": authorization}, body_is_signed=False)


def test_an_authorization_header_is_read_in_one_pass() -> None:
    with time_limit(_HANG_S):  # it was 47 s for the first one alone
        for text in ("a" * 60_000, 'a="b",' * 10_000, '"' * 60_000, "a=" * 30_000, '="' * 30_000):
            key_id_of(_head(f"Signature {text}"))
    key = key_id_of(_head('Signature version="1", keyId="k", ' + "a" * 60_000))
    assert key == "k"


@pytest.mark.parametrize("filler", ["'|", '"|', "| ", " ", "a", "a ", "'' ", "!", "a.", "=", "\t"])
def test_a_query_is_split_in_one_pass(filler: str) -> None:
    text = "search " + filler * (100_000 // len(filler))
    for read in (split_words, parse_log_query, parse_resource_query):
        with time_limit(_HANG_S), pytest.raises((ValueError, ServiceError)):
            read(f"{text}'")


# --- against a cloud --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authorization",
    [
        *(b"Signature " + b"a" * 60_000, b'Signature keyId="x"', b"Signature", b"Basic \xff", b""),
        'Signature version="1",algorithm="rsa-sha256",signature="ключ"'.encode(),
    ],
    ids=_numbered,
)
def test_an_authorization_header_of_any_form_is_401(client: Cloud, authorization: bytes) -> None:
    request = Request(b"GET", b"/n", ((b"authorization", authorization),), signed=False)
    assert _asked(client, request)[0] == 401


@pytest.mark.parametrize(
    "date",
    [
        *("Mon, 01 Jan 2026 00:00:00 +9999999999999", "Mon, 01 Jan 0001 00:00:00 +2359", "x"),
        *("9" * 5000, "Thu, 01 Jan 1970 00:00:00 GMT"),
    ],
    ids=_numbered,
)
def test_a_date_of_any_form_is_401(client: Cloud, date: str) -> None:
    assert _asked(client, Request(b"GET", b"/n", ((b"date", date.encode()),)))[0] == 401


def test_a_signature_that_is_not_ascii_is_401(client: Cloud, sdk: Sdk) -> None:
    value = (
        'Signature version="1",algorithm="rsa-sha256",headers="date (request-target) host",'
        f'keyId="{sdk.config["tenancy"]}/{sdk.config["user"]}/{sdk.config["fingerprint"]}",'
        'signature="\u00e9"'
    )
    headers = ((b"authorization", value.encode()), (b"date", formatdate(usegmt=True).encode()))
    assert _asked(client, Request(b"GET", b"/n", headers, signed=False))[0] == 401


def test_a_session_token_whose_head_is_deep_json_is_401(client: Cloud) -> None:
    head = base64.urlsafe_b64encode(b"[" * 30_000).decode().rstrip("=")
    value = f'Signature version="1",algorithm="rsa-sha256",keyId="ST${head}.e30.e30"'
    headers = ((b"authorization", value.encode()),)
    assert _asked(client, Request(b"GET", b"/n", headers, signed=False))[0] == 401


def test_a_federation_without_an_instance_is_401(client: Cloud) -> None:
    headers = ((b"authorization", b'Signature version="1"'),)
    request = Request(b"POST", b"/v1/x509", headers, b"{}", signed=False)
    assert _asked(client, request)[0] == 401


@pytest.mark.parametrize(
    "target",
    [
        *(b"http://127.0.0.1/n", b"http://[::1/n", b"*", b"n", b"/n?a=%zz", b"/%ff", b"/n/%"),
        b"/n/localoci/b/a/o/%ed%a0%80",
    ],
    ids=_numbered,
)
def test_a_target_that_is_no_path_is_400(client: Cloud, target: bytes) -> None:
    status, answer = _asked(client, Request(b"GET", target))
    assert (status, answer["code"]) == (400, "InvalidParameter")


@pytest.mark.parametrize(
    "body",
    [
        *(b"[" * 100_000, b"9" * 5000, b'{"compartmentId": "\\ud800"}', b"\x1f\x8b\x08junk", b"["),
        *(b'{"compartmentId": 1}', b"[]", b"1", b"null", b'{"compartmentId": "c", "a": 1e999}'),
        json.dumps({"compartmentId": "c", "definedTags": {"n": {"k": 10**400}}}).encode(),
    ],
    ids=_numbered,
)
def test_a_body_of_any_form_is_400(client: Cloud, body: bytes) -> None:
    assert _posted(client, "/20190101/projects", body)[0] == 400


@pytest.mark.parametrize("parameter", ["limit", "page"])
@pytest.mark.parametrize(
    "value", ["9" * 5000, "%D9%A3", "-1", "W1tb", "WyJcdWQ4MDAiLCAiIl0-"], ids=_numbered
)
def test_a_page_of_any_form_is_400(client: Cloud, parameter: str, value: str) -> None:
    target = f"/20190101/projects?compartmentId=c&{parameter}={value}".encode()
    assert _asked(client, Request(b"GET", target))[0] == 400


def test_names_that_the_store_has_not_are_400(client: Cloud) -> None:
    for name in ("", "a/b", "a b", "ключ", "a" * 257, "a\0", ".." + "/x"):
        body = json.dumps({"compartmentId": "c", "name": name}).encode()
        assert _posted(client, "/n/localoci/b", body)[0] == 400, name
    assert _posted(client, "/n/localoci/b", b'{"compartmentId": "c", "name": "a.B-_9"}')[0] == 200
    for name in ("a%00b", "a%0Ab", "a%0d", "a" * 1025):
        target = f"/n/localoci/b/a.B-_9/o/{name}".encode()
        assert _asked(client, Request(b"PUT", target, body=b"x"))[0] in (400, 404), name
    for name in ("a" * 1024, "%20", "..", "%D0%BA/%2F"):
        target = f"/n/localoci/b/a.B-_9/o/{name}".encode()
        assert _asked(client, Request(b"PUT", target, body=b"x"))[0] == 200, name


def test_headers_of_an_upload_that_http_cannot_carry_are_400(client: Cloud) -> None:
    bucket = b'{"compartmentId": "c", "name": "headers"}'
    assert _posted(client, "/n/localoci/b", bucket)[0] == 200
    for field in (
        {"contentType": "a\r\nset-cookie: b"},
        {"contentLanguage": "ключ"},
        {"metadata": {"a b": "c"}},
        {"metadata": {"a": "b\0"}},
    ):
        body = json.dumps({"object": "o", **field}).encode()
        assert _posted(client, "/n/localoci/b/headers/u", body)[0] == 400, field


@pytest.mark.parametrize(
    "header", ["bytes=0-" + "9" * 5000, "bytes=٣-", "bytes=--1", "bytes", "="], ids=_numbered
)
def test_a_range_of_any_form_is_400(client: Cloud, header: str) -> None:
    _posted(client, "/n/localoci/b", b'{"compartmentId": "c", "name": "ranges"}')
    target = b"/n/localoci/b/ranges/o/o"
    assert _asked(client, Request(b"PUT", target, body=b"0123456789"))[0] == 200
    request = Request(b"GET", target, ((b"range", header.encode()),))
    assert _asked(client, request)[0] == 400


def test_a_name_of_metadata_in_any_alphabet_becomes_a_file_name(client: Cloud, sdk: Sdk) -> None:
    item = {"key": "ключ\n", "value": "v", "category": "Other"}
    content = {"compartmentId": "c", "projectId": sdk.project(), "customMetadataList": [item]}
    model = client.create("/20190101/models", content)["id"]
    path = f"/20190101/models/{model}/customMetadata/%D0%BA%D0%BB%D1%8E%D1%87%0A/artifact"
    assert _asked(client, Request(b"POST", path.encode(), body=b"x"))[0] == 204
    answer = client.send(Request(b"GET", f"{path}/content".encode()))
    assert answer == Answer(200, b"x")


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example/teapot",
        "/v2/models/../generate",
        "/v2/models/%2e%2e/generate",
        "/a%3Fb",
    ],
)
def test_a_path_that_another_server_would_read_otherwise_reaches_nobody(
    client: Cloud, echo: str, path: str
) -> None:
    target = f"/{echo}/predict{path}".encode()
    assert _asked(client, Request(b"POST", target, body=b"{}"))[0] == 404


def test_a_custom_path_reaches_the_container_as_it_was_opened(client: Cloud, echo: str) -> None:
    target = f"/{echo}/predict/items/a%20%3F%23b?c=%20d".encode()
    status, answer = _asked(client, Request(b"GET", target))
    assert (status, answer["path"]) == (200, "/items/a%20%3F%23b?c=%20d")


def test_headers_that_are_not_ascii_reach_the_container(client: Cloud, echo: str) -> None:
    request = Request(b"POST", f"/{echo}/predict".encode(), ((b"x-name", b"\xe9"),), b"{}")
    status, answer = _asked(client, request)
    assert (status, answer["headers"]["x-name"]) == (200, "\u00e9")  # type: ignore[index]


@pytest.mark.parametrize(
    "environment",
    [
        *({"A1": "\0"}, {"SHM_SIZE": "64m,uid=0"}, {"MODEL_DEPLOY_HEALTH_ENDPOINT": "/\n"}),
        {"MODEL_DEPLOY_PREDICT_ENDPOINT": "/ключ"},
    ],
)
def test_variables_that_no_process_can_have_are_400(
    sdk: Sdk, client: Cloud, environment: dict[str, str]
) -> None:
    details = sdk.deployment_details(sdk.model(), environment)
    content = sdk.data_science.base_client.sanitize_for_serialization(details)
    body = json.dumps(content).encode()
    assert _posted(client, "/20190101/modelDeployments", body)[0] == 400


@pytest.mark.parametrize(
    "count", [10**400, "9" * 4000, 2**31, -(2**63), 1e308, "nan"], ids=_numbered
)
def test_a_number_of_instances_beyond_reason_is_400(sdk: Sdk, client: Cloud, count: object) -> None:
    content = sdk.data_science.base_client.sanitize_for_serialization(
        sdk.deployment_details(sdk.model())
    )
    model = content["modelDeploymentConfigurationDetails"]["modelConfigurationDetails"]
    model["scalingPolicy"] = {"policyType": "FIXED_SIZE", "instanceCount": count}
    body = json.dumps(content).encode()
    assert _posted(client, "/20190101/modelDeployments", body)[0] == 400


# --- the routes for this machine alone --------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Bearer \u00e9"}, 401),
        ({"authorization": "TOKEN", "host": "evil.example"}, 404),
        ({"authorization": "TOKEN", "host": "[::1"}, 404),
        ({"authorization": "TOKEN", "origin": "http://127.0.0.1"}, 404),
        ({"authorization": "TOKEN", "origin": "null"}, 404),
        ({"authorization": "TOKEN", "x-forwarded-for": "10.0.0.1"}, 200),
        ({"authorization": "TOKEN", "host": "localhost:1"}, 200),
    ],
)
def test_the_clouds_own_routes_are_for_holders_of_its_token_on_this_machine(
    client: Cloud, headers: Mapping[str, str], status: int
) -> None:
    given = tuple(
        (name.encode(), value.replace("TOKEN", f"Bearer {client.token.decode()}").encode("latin-1"))
        for name, value in headers.items()
    )
    for path in (b"/_local/health", b"/_local/faults"):
        assert _asked(client, Request(b"GET", path, given, signed=False))[0] == status


def test_a_forwarded_address_is_a_claim_of_the_client_alone(new_cloud, tmp_path: Path) -> None:
    cloud = new_cloud("--host=0.0.0.0")
    directory = cloud.directory
    client = Cloud(directory, directory.parent / f"{directory.name}{_LOG}")
    bearer = (b"authorization", b"Bearer " + client.token)
    forwarded = ((b"x-forwarded-for", b"127.0.0.1"), bearer, (b"host", b"127.0.0.1"))
    assert _asked(client, Request(b"GET", b"/_local/health", forwarded, signed=False))[0] == 200
    client.address = (_address_of_this_machine(), client.address[1])
    assert _asked(client, Request(b"GET", b"/_local/health", forwarded, signed=False))[0] == 404


def _address_of_this_machine() -> str:
    """An address that is no loopback; none is sent anything."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            address: str = probe.getsockname()[0]
        except OSError:
            pytest.skip("this machine has no other address than its loopback")
        return address
