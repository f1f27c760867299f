"""Where a local client's request goes, and which headers go with it. Pure."""

from __future__ import annotations

import pytest

from falconry.proxy.access import Access
from falconry.proxy.forwarding import (
    BadPathError,
    returned_headers,
    sent_headers,
    upstream_path,
)

STREAM = b'{"stream": true}'
ROUTE = "predictWithResponseStream"


@pytest.mark.parametrize(
    ("target", "body", "path"),
    [
        ("/predict", b"{}", "/predict"),
        ("/predict/v1/models", b"", "/predict/v1/models"),
        ("/predictWithResponseStream", STREAM, "/predictWithResponseStream"),
        ("/v1/models", b"", "/predict/v1/models"),
        ("/v1/completions", b'{"stream": false}', "/predict/v1/completions"),
        ("/v1/completions", b"[true]", "/predict/v1/completions"),
        ("/v1/completions", b"no JSON", "/predict/v1/completions"),
        ("/v1/completions", STREAM, f"/{ROUTE}/v1/completions"),
        ("/v2/models/m/generate", STREAM, "/predict/v2/models/m/generate"),
        (
            "/v2/models/m/generate_stream",
            b"",
            "/predictWithResponseStream/v2/models/m/generate_stream",
        ),
        ("/a?b=../c&d=%2F", b"", "/predict/a?b=../c&d=%2F"),
        ("/a%20b", b"", "/predict/a%20b"),
    ],
)
def test_a_request_goes_to_the_route_that_answers_as_it_asks(target, body, path):
    assert upstream_path(target, body) == path


@pytest.mark.parametrize(
    "target",
    [
        "/..",
        "/predict/../../ocid1.datasciencemodeldeployment.oc1..other/predict",
        "/v1/%2e%2E/%2e%2e/x",
        "/v1/..%2f..%2fx",
        "/v1/..%5cx",
        "/v1/./x",
        "//other.example/x",
        "/predict/",
        "http://other.example/x",
        "*",
        "/v1/a%00b",
        "/v1/a%0d%0ab",
    ],
)
def test_no_path_leads_out_of_the_deployment(target):
    with pytest.raises(BadPathError, match="is not a path of a deployment"):
        upstream_path(target, b"")


def test_what_is_the_clients_own_stays_there():
    given = [
        ("Host", "127.0.0.1"),
        ("Authorization", "Bearer secret"),
        ("Cookie", "a=b"),
        ("Origin", "http://127.0.0.1"),
        ("Sec-Fetch-Mode", "cors"),
        ("Accept-Encoding", "gzip"),
        ("Connection", "keep-alive"),
        ("Transfer-Encoding", "chunked"),
        ("model_name", "ensemble"),
        ("Inference-Header-Content-Length", "7"),
        ("Content-Encoding", "gzip"),
        ("x-request-id", "1"),
    ]
    assert sent_headers(given) == given[8:]


def test_curls_form_is_sent_as_json():
    form = ("content-type", "application/x-www-form-urlencoded; charset=utf-8")
    assert sent_headers([form]) == [("content-type", "application/json")]
    other = ("content-type", "application/octet-stream")
    assert sent_headers([other]) == [other]


def test_an_answers_headers_come_back_but_those_of_its_connection():
    kept = [("retry-after", "2"), ("opc-request-id", "1"), ("content-length", "3")]
    dropped = [("Trailer", "StreamFailure"), ("set-cookie", "a"), ("keep-alive", "5")]
    assert returned_headers([*kept, *dropped]) == kept


def test_each_proxy_has_a_token_of_its_own_for_its_user_alone(tmp_path):
    access, other = Access(tmp_path / "proxy/1"), Access(tmp_path / "proxy/2")
    assert access.token != other.token
    assert access.admits(f"Bearer {access.token}")
    assert access.admits(f"bearer  {access.token}")
    for wrong in ("", "Bearer", "Bearer ", access.token, f"Basic {access.token}", "Bearer é"):
        assert not access.admits(wrong)
    assert not access.admits(f"Bearer {other.token}")
    access.write()
    access.write()  # one that was killed has left its files
    assert access.directory.stat().st_mode & 0o777 == 0o700
    assert access.token_file.read_text() == access.token
    assert access.admits(access.authorization_file.read_text().partition(": ")[2])
    assert {each.stat().st_mode & 0o777 for each in access.directory.iterdir()} == {0o600}
    access.remove()
    assert not access.directory.exists()
    assert access.token not in repr(access)


def test_a_log_is_told_where_the_token_is_and_a_terminal_what_it_is(tmp_path):
    access = Access(tmp_path)
    url = "http://127.0.0.1:8090"
    assert access.token not in "\n".join(access.introduction(url, shows_token=False))
    assert f"{url}/#token={access.token}" in "\n".join(access.introduction(url, shows_token=True))
