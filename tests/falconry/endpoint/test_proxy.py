"""The proxy before a deployment of local_oci, for clients that cannot sign."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from falconry.errors import MachineError
from falconry.proxy.access import Access
from falconry.proxy.server import DESCRIPTION, DeploymentProxy, ProxiedDeployment, description_of
from tests.local_oci.support import LocalCloud, Sdk

Script = Callable[..., dict[str, Any]]
WAIT_S = 20


@contextlib.contextmanager
def serving(proxied: ProxiedDeployment, build: Path) -> Iterator[tuple[httpx.Client, list[str]]]:
    """A proxy in a thread; gives a client that has its token, and the lines of its log."""
    lines: list[str] = []
    proxy = DeploymentProxy(proxied, build, lines.append)
    opened: list[tuple[str, Access]] = []
    is_open = threading.Event()

    def ready(url: str, access: Access) -> None:
        opened.append((url, access))
        is_open.set()

    loop, ended = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(proxy.serve(0, ready, ended),))
    thread.start()
    try:
        assert is_open.wait(WAIT_S)
        ((url, access),) = opened
        name, _, value = access.authorization_file.read_text().partition(": ")
        with httpx.Client(base_url=url, headers={name: value}, timeout=WAIT_S) as client:
            yield client, lines
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(WAIT_S)
        loop.close()
    assert not access.directory.exists()


@pytest.fixture(scope="module")
def opened(
    sdk: Sdk, deployment: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[httpx.Client, list[str]]]:
    description = description_of(deployment)
    proxied = ProxiedDeployment(deployment.model_deployment_url, sdk.signer, description)
    with serving(proxied, tmp_path_factory.mktemp("proxy")) as client_and_lines:
        yield client_and_lines


@pytest.fixture
def client(opened: tuple[httpx.Client, list[str]]) -> httpx.Client:
    return opened[0]


@pytest.fixture
def official(client: httpx.Client) -> openai.OpenAI:
    token = client.headers["authorization"].removeprefix("Bearer ")
    return openai.OpenAI(base_url=f"{client.base_url}/v1", api_key=token, max_retries=0)


def test_a_request_passes_signed_and_without_the_token(client: httpx.Client) -> None:
    answer = client.post("/other?a=b", json={"x": 1}, headers={"model_name": "m", "cookie": "c=d"})
    assert answer.status_code == 200
    assert answer.headers["opc-request-id"]
    received = answer.json()
    assert received["path"] == "/other?a=b"
    assert received["body"] == {"x": 1}
    headers = {name.lower(): value for name, value in received["headers"].items()}
    assert headers["model_name"] == "m"
    assert "cookie" not in headers
    assert not any("Bearer" in value for value in headers.values())


def test_what_the_gateway_refuses_comes_back_as_it_is(client: httpx.Client) -> None:
    answer = client.get("/not/opened")
    assert answer.status_code == 404
    assert answer.json()["code"] == "NotAuthorizedOrNotFound"


def test_a_gateway_that_is_busy_is_asked_once(
    client: httpx.Client, scripted_cloud: LocalCloud
) -> None:
    scripted_cloud.fault(kind="throttle", operation="predict", times=1)
    answer = client.post("/other", json={})
    assert answer.status_code == 429
    assert client.post("/other", json={}).status_code == 200


@pytest.mark.parametrize("path", ["/other", "/v1/models", DESCRIPTION])
@pytest.mark.parametrize(
    "given", [None, "Bearer wrong", "Basic eDp5"], ids=["none", "wrong", "basic"]
)
def test_who_has_no_token_reaches_nothing(
    client: httpx.Client, path: str, given: str | None
) -> None:
    headers = {} if given is None else {"authorization": given}
    answer = httpx.get(f"{client.base_url}{path}", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "make proxy" in str(answer.json()["error"])


def test_the_page_needs_no_token_and_tells_nothing(client: httpx.Client, deployment: Any) -> None:
    answer = httpx.get(f"{client.base_url}/")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert deployment.display_name not in answer.text
    assert deployment.id not in answer.text
    for outside in ("http://", "https://", "src=", "@import", "url("):
        assert outside not in answer.text
    assert client.get(DESCRIPTION).json()["name"] == deployment.display_name


def test_a_name_that_somebody_points_here_is_refused(client: httpx.Client) -> None:
    answer = client.get("/", headers={"host": "rebound.example"})
    assert answer.status_code == 421
    assert client.get("/", headers={"host": "localhost:1"}).status_code == 200


def test_a_request_above_ocis_limit_is_refused_here(client: httpx.Client) -> None:
    answer = client.post("/other", content=b"x" * (10 << 20) + b"xx")
    assert answer.status_code == 413
    assert "10 MB" in answer.json()["error"]


def test_the_official_client_needs_a_base_url_and_the_token(
    official: openai.OpenAI, script: Script
) -> None:
    answer = official.completions.with_raw_response.create(model="falcon", prompt="x")
    assert json.loads(answer.text)["path"] == "/v1/completions"
    choice = {"index": 0, "text": "Because", "finish_reason": None}
    event = f"data: {json.dumps({'id': '1', 'choices': [choice]})}\n\n".encode()
    stream = official.completions.create(
        model="falcon", prompt="x", stream=True, extra_body=script(event, b"data: [DONE]\n\n")
    )
    assert [chunk.choices[0].text for chunk in stream] == ["Because"]


def test_a_stream_that_the_gateway_breaks_off_is_an_error_for_clients_without_trailers(
    client: httpx.Client, official: openai.OpenAI, scripted_cloud: LocalCloud, script: Script
) -> None:
    operation = "predict_with_response_stream"
    scripted_cloud.fault(kind="timeout", operation=operation, seconds=0.3, times=2)
    body = script(b'data: {"choices": []}\n\n', then="silence")
    stream = official.completions.create(model="m", prompt="x", stream=True, extra_body=body)
    assert next(stream).choices == []
    with pytest.raises(openai.APIError, match="RequestTimeout"):
        next(stream)
    received = b""
    with (
        client.stream("POST", "/v2/models/m/generate_stream", json=body) as answer,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        for chunk in answer.iter_raw():
            received += chunk
    assert b'data: {"error": ' in received.partition(b"\n\n")[2]


def test_a_text_stream_comes_as_it_is_made(client: httpx.Client, script: Script) -> None:
    body = script(b"one", b"two", type="text/plain", pause=0.05)
    with client.stream("POST", "/predictWithResponseStream/slow", json=body) as answer:
        assert list(answer.iter_raw()) == [b"one", b"two"]


def test_the_log_has_no_query_and_no_token(
    client: httpx.Client, opened: tuple[httpx.Client, list[str]]
) -> None:
    client.post("/other?secret=1", json={"secret": 2})
    text = "\n".join(opened[1])
    assert "POST /other 200" in text
    assert "secret" not in text
    assert client.headers["authorization"].split()[1] not in text


@pytest.mark.parametrize("begun", [b"", b"5\r\nhello\r\n"], ids=["before it", "within it"])
def test_a_client_that_leaves_ends_its_request(begun: bytes, tmp_path: Path) -> None:
    left = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(WAIT_S)
                while b"\r\n\r\n" not in connection.recv(4096):
                    pass
                if begun:
                    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
                    connection.sendall(head + begun)
                if connection.recv(1) == b"":
                    left.set()

        server = threading.Thread(target=answer)
        server.start()
        port = listener.getsockname()[1]
        proxied = ProxiedDeployment(f"http://127.0.0.1:{port}/ocid", lambda request: request, {})
        with serving(proxied, tmp_path) as (client, _):
            if begun:
                with client.stream("GET", "/v2") as answered:
                    assert next(answered.iter_raw()) == b"hello"
            else:
                with pytest.raises(httpx.ReadTimeout):
                    client.get("/v2", timeout=0.3)
            assert left.wait(WAIT_S)
        server.join(WAIT_S)


def test_a_deployment_that_cannot_be_reached_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    proxied = ProxiedDeployment(f"http://127.0.0.1:{port}/ocid", lambda request: request, {})
    with serving(proxied, tmp_path) as (client, _):
        answer = client.get("/v1/models")
    assert answer.status_code == 502
    assert "cannot connect" in answer.json()["error"]["message"]


def test_a_port_that_is_taken_is_one_sentence(tmp_path: Path) -> None:
    proxied = ProxiedDeployment("http://127.0.0.1:1/ocid", lambda request: request, {})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        proxy = DeploymentProxy(proxied, tmp_path, lambda _: None)
        with pytest.raises(MachineError, match="make proxy PORT=<number>"):
            proxy.run(port, lambda url, access: None)
