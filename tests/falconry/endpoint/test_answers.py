"""What the client makes of answers, against a small HTTP server that gives them."""

import email.utils
import http.server
import json
import socket
import threading
import time

import pytest

from falconry.endpoint import Endpoint
from falconry.errors import EndpointError


class Answering(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        self.server.connections += 1
        super().setup()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append((self.path, dict(self.headers), json.loads(body)))
        status, answer, *headers = self.server.answers.pop(0)
        self.send_response(status)
        for name, value in (headers[0] if headers else {}).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    running.answers, running.seen, running.connections = [], [], 0
    threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def signed(request):
    request.headers["authorization"] = "Signature test"
    return request


@pytest.fixture
def endpoint(server):
    def make():
        return Endpoint(f"http://127.0.0.1:{server.server_port}/ocid1.x", signed)

    return make


def test_a_generate_answer_is_its_text(server, endpoint):
    server.answers.append((200, b'{"text_output": "hi"}'))
    assert endpoint().answer("hello", 5) == "hi"
    path, headers, body = server.seen[0]
    assert path == "/ocid1.x/predict"
    assert body == {"text_input": "hello", "max_tokens": 5}
    assert headers["model_name"] == "tensorrt_llm_bls"
    assert headers["model_version"] == "1"
    assert headers["authorization"] == "Signature test"


def test_an_infer_answer_is_its_text(server, endpoint):
    answer = {"outputs": [{"name": "other", "data": [1]}, {"name": "text_output", "data": ["hi"]}]}
    server.answers.append((200, json.dumps(answer).encode()))
    assert endpoint().answer("hello", 5) == "hi"


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (400, b'{"error": "max_tokens is -1"}', ["400", "max_tokens is -1"]),
        (401, b'{"code": "NotAuthenticated", "message": "no"}', ["401", "no", "clock"]),
        (413, b"", ["413", "10 MB"]),
        (429, b'{"message": "slow down"}', ["429", "slow down", "bandwidth"]),
        (503, b"busy", ["503", "busy", "make logs"]),
    ],
)
def test_a_refusal_is_one_sentence_with_the_reason(server, endpoint, status, answer, said):
    server.answers.append((status, answer))
    with pytest.raises(EndpointError) as refused:
        endpoint().answer("hello", 5)
    assert all(word in str(refused.value) for word in said), str(refused.value)


def test_a_question_is_never_sent_twice(server, endpoint):
    server.answers += [(503, b""), (200, b'{"text_output": "hi"}')]
    with pytest.raises(EndpointError):
        endpoint().answer("hello", 5)
    assert len(server.seen) == 1


@pytest.mark.parametrize("answer", [b"", b"[]", b'{"other": 1}', b"<html>"])
def test_an_answer_without_text_is_one_sentence(server, endpoint, answer):
    server.answers.append((200, answer))
    with pytest.raises(EndpointError):
        endpoint().answer("hello", 5)


def test_a_first_question_waits_while_the_server_is_starting(server, endpoint):
    server.answers += [(503, b""), (503, b""), (200, b'{"text_output": "hi"}')]
    endpoint().smoke()
    assert server.answers == []


def test_a_first_question_that_is_refused_fails_at_once(server, endpoint):
    server.answers += [(400, b'{"error": "no"}')]
    with pytest.raises(EndpointError, match="400"):
        endpoint().smoke()


def lose(listening, answers):
    """Answers connections with what is given for each; b"" breaks the connection."""
    for answer in answers:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer)


@pytest.mark.parametrize(("losses", "succeeds"), [(3, True), (4, False)])
def test_a_first_question_is_asked_again_when_its_connection_breaks(losses, succeeds):
    body = b'{"text_output": "hi"}'
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        answers = [*[b""] * losses, *([answer] if succeeds else [])]
        thread = threading.Thread(target=lose, args=(listening, answers))
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/ocid1.x"
        asking = Endpoint(url, signed)
        if succeeds:
            asking.smoke()
        else:
            with pytest.raises(EndpointError, match="the server closed the connection"):
                asking.smoke()
        thread.join()


def test_nobody_there_is_one_sentence():
    with pytest.raises(EndpointError, match="no answer"):
        Endpoint("http://127.0.0.1:9", signed).answer("hello", 5)


@pytest.mark.parametrize("status", [429, 503])
def test_a_question_is_asked_again_when_the_server_says_when(server, endpoint, status):
    server.answers += [(status, b"", {"retry-after": "0"}), (200, b'{"text_output": "hi"}')]
    assert endpoint().answer("hello", 5) == "hi"
    first, second = server.seen
    assert first[2] == second[2]


def test_a_date_says_when_as_well(server, endpoint):
    soon = email.utils.formatdate(time.time(), usegmt=True)
    server.answers += [(503, b"", {"retry-after": soon}), (200, b'{"text_output": "hi"}')]
    assert endpoint().answer("hello", 5) == "hi"


@pytest.mark.parametrize("after", ["3600", "soon", "Mon, 99 Foo 2026 10:00:00 GMT"])
def test_a_wait_that_is_too_long_or_no_time_is_not_made(server, endpoint, after):
    server.answers += [(503, b"", {"retry-after": after}), (200, b"{}")]
    with pytest.raises(EndpointError, match="503"):
        endpoint().answer("hello", 5)
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [400, 408, 409, 500, 502, 504])
def test_what_may_have_been_carried_out_is_not_asked_again(server, endpoint, status):
    server.answers += [(status, b"", {"retry-after": "0"}), (200, b"{}")]
    with pytest.raises(EndpointError):
        endpoint().answer("hello", 5)
    assert len(server.seen) == 1


def test_one_connection_serves_many_questions(server, endpoint):
    server.answers += [(200, b'{"text_output": "hi"}')] * 3
    asking = endpoint()
    assert [asking.answer("hello", 5) for _ in range(3)] == ["hi"] * 3
    assert server.connections == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x00\xff\x00\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000,
    ],
)
def test_bytes_that_are_no_answer_are_one_sentence(sent):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(sent)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/ocid1.x"
        with pytest.raises(EndpointError, match="the answer is incomplete") as told:
            Endpoint(url, signed).answer("hello", 5)
        thread.join()
    assert "\n" not in str(told.value)
