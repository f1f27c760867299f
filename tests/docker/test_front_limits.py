"""The front under attack: slow clients, many of them, large bodies, and HTTP that is none."""

import asyncio
import gzip
import importlib
import json
import socket
import threading
from contextlib import ExitStack, closing

import pytest

from tests.docker.front_support import running_front, wait_until, wait_until_ready
from tests.docker_images import ROOT

GENERATE = "/v2/models/tensorrt_llm_bls/generate"
RIGHT = {"text_input": "x", "max_tokens": 1}
BODY = json.dumps(RIGHT).encode()
LENGTH = len(BODY)
LARGE = 9 << 20
SETTINGS = {
    "max_connections": 40,
    "header_timeout_s": 0.5,
    "body_timeout_s": 2,
    "max_bytes_in_flight": 20 << 20,
}


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    with running_front(tmp_path_factory.mktemp("front"), **SETTINGS) as front:
        wait_until_ready(front)
        yield front


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    """A front whose deadlines never come."""
    settings = {**SETTINGS, "header_timeout_s": 600, "body_timeout_s": 600}
    with running_front(tmp_path_factory.mktemp("patient"), **settings) as front:
        wait_until_ready(front)
        yield front


@pytest.fixture(autouse=True)
def no_traceback(request):
    yield
    for name in {"front", "patient"} & set(request.fixturenames):
        assert "Traceback" not in request.getfixturevalue(name).log


def connected(front):
    host, _, port = front.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def head(path=GENERATE, length=LENGTH, *lines):
    more = "".join(f"{line}\r\n" for line in lines)
    start = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{more}\r\n"
    return start.encode("latin-1")


def received(connection):
    """All that comes until the server ends the connection."""
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def status(front, content):
    """The status of the answer to bytes; 0 where the server only ends the connection."""
    with closing(connected(front)) as connection:
        connection.sendall(content)
        answer = connection.recv(1 << 16)
    return int(answer.split(maxsplit=2)[1]) if answer else 0


def test_half_open_connections_do_not_disturb_the_others(patient):
    with ExitStack() as connections:
        for number in range(200):  # five times as many as there may be
            half_open = connections.enter_context(closing(connected(patient)))
            half_open.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: ")
            if number % 20 == 0:
                assert patient.post(GENERATE, RIGHT).status_code == 200


def test_silent_connections_do_not_disturb_the_others(patient):
    with ExitStack() as connections:
        for _ in range(200):
            connections.enter_context(closing(connected(patient)))
        assert patient.post(GENERATE, RIGHT).status_code == 200


def test_clients_that_never_send_their_body_do_not_disturb_the_others(patient):
    with ExitStack() as connections:
        for _ in range(200):
            slow = connections.enter_context(closing(connected(patient)))
            slow.sendall(head(length=50) + b'{"text')
        assert patient.post(GENERATE, RIGHT).status_code == 200


def test_a_stream_under_way_is_not_ended_by_new_connections(patient, monkeypatch):
    monkeypatch.setattr(patient.triton, "token_s", 0.02)
    path = GENERATE + "_stream"
    body = {"text_input": "x", "max_tokens": 100, "stream": True}
    with patient.post(path, body, stream=True) as stream, ExitStack() as connections:
        lines = (json.loads(line[5:]) for line in stream.iter_lines() if line)
        next(lines)
        for _ in range(100):
            connections.enter_context(closing(connected(patient)))
        assert [*lines][-1]["completion_tokens"] == 100


def test_unfinished_large_bodies_take_no_more_memory_than_they_may(patient):
    with ExitStack() as connections:
        for _ in range(20):
            slow = connections.enter_context(closing(connected(patient)))
            # What the server refuses in the middle it does not read to the end.
            sending = threading.Thread(target=send_quietly, args=(slow, LARGE), daemon=True)
            sending.start()
        wait_until(
            lambda: patient.metric('falconry_front_refused_total{reason="busy"}') >= 18, seconds=30
        )
        assert patient.post(GENERATE, RIGHT).status_code == 200


def send_quietly(connection, size):
    """Sends all of a large body but its end."""
    try:
        connection.sendall(head(length=size) + b'{"text_input": "')
        connection.sendall(b"a" * (size - 100))
    except OSError:
        pass


def test_a_large_body_that_is_answered_makes_room_for_the_next(front):
    body = b'{"max_tokens": 1, "text_input": "' + b"a" * LARGE + b'"}'
    for _ in range(4):
        assert front.post(GENERATE, None, data=body).status_code == 200


def test_a_head_that_does_not_come_ends_the_connection(front):
    with closing(connected(front)) as connection:
        connection.sendall(b"POST /v1/comp")
        assert received(connection) == b""


def test_the_head_of_a_second_request_has_a_deadline_too(front):
    with closing(connected(front)) as connection:
        connection.sendall(head() + BODY)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        connection.sendall(b"POST /v1/comp")
        rest = received(connection)
        assert b"HTTP/1.1" not in rest


def test_a_body_that_does_not_come_is_408(front):
    assert status(front, head() + BODY[:-1]) == 408


def test_a_head_that_never_ends_is_431(front):
    lines = [f"X-{number}: {'a' * 8000}" for number in range(20)]
    content = head("/v1/completions", 5, *lines)[:-2]
    assert status(front, content[: 70 << 10]) in (431, 0)


def test_what_is_announced_too_large_is_refused_before_it_comes(front):
    assert status(front, head(length=40 << 20)) == 413


def test_what_unpacks_to_too_much_is_refused(front):
    packed = gzip.compress(b" " * (50 << 20))
    assert status(front, head(GENERATE, len(packed), "Content-Encoding: gzip") + packed) == 413


def test_a_packed_body_is_taken(front):
    packed = gzip.compress(BODY)
    for path in (GENERATE, "/v1/completions"):
        content = gzip.compress(json.dumps({"model": "x"}).encode()) if "v1" in path else packed
        answer = status(front, head(path, len(content), "Content-Encoding: gzip") + content)
        assert answer == (400 if "v1" in path else 200)


@pytest.mark.parametrize("path", [GENERATE, "/v1/completions", "/v2/models/ensemble/infer"])
@pytest.mark.parametrize(
    ("line", "content"),
    [
        ("Content-Encoding: gzip", b"junkjunk"),
        ("Content-Encoding: gzip", b"\x1f\x8b\x08" + b"\xff" * 40),
        ("Content-Encoding: deflate", b"junkjunk"),
        ("Content-Encoding: unknown", BODY),
        ("Inference-Header-Content-Length: 99999", BODY),
        ("Inference-Header-Content-Length: x", BODY),
    ],
)
def test_a_body_that_is_not_what_its_headers_say_is_400(front, path, line, content):
    assert status(front, head(path, len(content), line) + content) == 400


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (head(f"http://elsewhere:1{GENERATE}") + BODY, 200),
        (head("http://elsewhere") + BODY, 403),
        (head(GENERATE, len(BODY), "X-Other: \xff\xfe") + BODY, 200),
        (head(GENERATE, len(BODY), "Expect: nothing") + BODY, 417),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 403),
        (b"GET /v2/\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"POST /v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: -4\r\n\r\n", 400),
    ],
)
def test_what_http_says_of_strange_requests(front, content, expected):
    assert status(front, content) == expected


def test_a_path_goes_on_as_it_was_checked(front):
    """As another path of the same meaning, it would have escaped the checks of its body."""
    content = head("/v2/models/x/../tensorrt_llm_bls/generate", 2) + b"{}"
    assert status(front, content) == 403


@pytest.mark.parametrize("role", [[], {}, 5, None, True])
def test_a_role_of_a_wrong_type_is_400(front, role):
    body = {"model": "tensorrt_llm_bls", "messages": [{"role": role, "content": "x"}]}
    refused = front.post("/v1/chat/completions", body)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "messages[0].role"


def test_an_answer_does_not_repeat_all_that_was_sent(front):
    for body in (
        {"model": "a" * 100_000, "prompt": "x"},
        {"model": "m", "prompt": "x", "b" * 100_000: 1},
    ):
        refused = front.post("/v1/completions", body)
        assert refused.status_code in (400, 404)
        assert len(refused.content) < 1000


def test_a_client_that_takes_nothing_is_cut_off(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docker/server"))
    connections = importlib.import_module("connections")
    monkeypatch.setattr(connections, "_SEND_TIMEOUT_S", 0.01)
    cut = []

    class Stuck:
        transport = type("Transport", (), {"abort": lambda self: cut.append(True)})()

        async def write(self, data):
            await asyncio.sleep(60)

    with pytest.raises(ConnectionResetError):
        asyncio.run(connections.send(Stuck(), Stuck(), b"data"))
    assert cut == [True]
