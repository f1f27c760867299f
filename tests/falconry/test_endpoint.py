"""What the client makes of answers, against a small HTTP server that gives them."""

import http.server
import json
import threading

import pytest

from falconry.endpoint import Endpoint
from falconry.errors import EndpointError


class Answering(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append((self.path, dict(self.headers), json.loads(body)))
        status, answer = self.server.answers.pop(0)
        self.send_response(status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    running.answers, running.seen = [], []
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def signed(request):
    request.headers["authorization"] = "Signature test"
    return request


@pytest.fixture
def endpoint(server):
    def make(route="generate"):
        return Endpoint(f"http://127.0.0.1:{server.server_port}/ocid1.x", signed, route)

    return make


def test_a_generate_answer_is_its_text(server, endpoint):
    server.answers.append((200, b'{"text_output": "hi"}'))
    assert endpoint().answer("hello", 5) == "hi"
    path, headers, body = server.seen[0]
    assert path == "/ocid1.x/predict"
    assert body == {"text_input": "hello", "max_tokens": 5}
    assert headers["model_name"] == "ensemble"
    assert headers["model_version"] == "1"
    assert headers["authorization"] == "Signature test"


def test_an_infer_answer_is_its_text(server, endpoint):
    answer = {"outputs": [{"name": "other", "data": [1]}, {"name": "text_output", "data": ["hi"]}]}
    server.answers.append((200, json.dumps(answer).encode()))
    assert endpoint("infer").answer("hello", 5) == "hi"
    assert [each["name"] for each in server.seen[0][2]["inputs"]] == ["text_input", "max_tokens"]


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


def test_nobody_there_is_one_sentence():
    with pytest.raises(EndpointError, match="no answer"):
        Endpoint("http://127.0.0.1:9", signed, "generate").answer("hello", 5)
