"""The front's limits, readiness, metrics, log and stop, before a stand-in for Triton."""

import contextlib
import gzip
import http.client
import json
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import requests

from tests.docker.front_support import running_front, wait_until, wait_until_ready
from tests.docker_images import ROOT

GENERATE = "/v2/models/tensorrt_llm_bls/generate"
STREAM = "/v2/models/tensorrt_llm_bls/generate_stream"
SECRET = "a prompt that nobody else may read"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with running_front(tmp_path_factory.mktemp("front")) as front:
        wait_until_ready(front)
        yield front


@pytest.fixture
def front(shared):
    shared.triton.token_s = 0.0
    shared.triton.seen.clear()
    return shared


@pytest.fixture
def narrow(tmp_path):
    """A front that lets one generation through at a time, and one wait for half a second."""
    settings = {"max_in_flight": 1, "max_queued": 1, "queue_timeout_s": 0.5}
    with running_front(tmp_path, **settings) as front:
        wait_until_ready(front)
        yield front


@contextmanager
def occupied(front, tokens=100):
    """While a stream is under way; gives the lines that are still to come."""
    front.triton.token_s = 0.02
    body = {"text_input": "x", "max_tokens": tokens, "stream": True}
    with front.post(STREAM, body, stream=True) as stream:
        lines = stream.iter_lines()
        next(lines)
        yield lines


def leave_after(url, path, body, seconds):
    """A client that sends a request and closes its connection a while later."""
    host, _, port = url.removeprefix("http://").partition(":")
    content = json.dumps(body).encode()
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode() + content)
        time.sleep(seconds)


def test_beyond_the_queue_the_next_one_is_refused_at_once_with_429(narrow):
    with occupied(narrow), ThreadPoolExecutor() as pool:
        waiting = pool.submit(narrow.post, GENERATE, {"text_input": "x", "max_tokens": 1})
        wait_until(lambda: narrow.metric("falconry_front_generations_queued") == 1)
        started = time.monotonic()
        refused = narrow.post(GENERATE, {"text_input": "x", "max_tokens": 1})
        assert time.monotonic() - started < 0.3
        assert refused.status_code == 429
        assert refused.headers["Retry-After"] == "1"
        assert "1 requests are under way and 1 wait" in refused.json()["error"]
        assert waiting.result().status_code == 503
    assert narrow.metric('falconry_front_refused_total{reason="queue_full"}') == 1


def test_who_waits_too_long_is_refused_with_503_and_the_next_one_has_its_turn(narrow):
    with occupied(narrow):
        refused = narrow.post(GENERATE, {"text_input": "x", "max_tokens": 1})
    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "1"
    assert "waited 0.5 s" in refused.json()["error"]
    assert narrow.post(GENERATE, {"text_input": "x", "max_tokens": 1}).status_code == 200
    assert narrow.metric('falconry_front_refused_total{reason="queue_timeout"}') == 1
    assert narrow.metric("falconry_front_generations_in_flight") == 0


def test_turns_come_in_the_order_of_arrival(tmp_path):
    with running_front(tmp_path, max_in_flight=1, max_queued=8) as front:
        wait_until_ready(front)
        with occupied(front, tokens=20), ThreadPoolExecutor() as pool:
            waiting = []
            for place in range(5):
                body = {"text_input": f"place {place}", "max_tokens": 1}
                waiting.append(pool.submit(front.post, GENERATE, body))
                queued = place + 1
                wait_until(
                    lambda: front.metric("falconry_front_generations_queued") == queued  # noqa: B023
                )
            assert [each.result().status_code for each in waiting] == [200] * 5
        texts = [seen["body"]["text_input"] for seen in front.triton.seen[1:]]
        assert texts == [f"place {place}" for place in range(5)]


def test_what_stops_a_request_does_not_wait_for_a_turn(narrow):
    with occupied(narrow):
        stopped = narrow.post(GENERATE, {"stop_token": "somebody's token", "stop": True})
    assert stopped.status_code == 200


def test_a_client_that_leaves_while_it_waits_leaves_the_queue(narrow):
    with occupied(narrow):
        leave_after(narrow.url, GENERATE, {"text_input": "x", "max_tokens": 1}, 0.1)
        wait_until(lambda: narrow.metric("falconry_front_generations_queued") == 0)
    assert len(narrow.triton.seen) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (STREAM, {"text_input": "x", "max_tokens": 1000, "stream": True}),
        (GENERATE, {"text_input": "x", "max_tokens": 1000}),
        ("/v1/completions", {"model": "tensorrt_llm_bls", "prompt": "x", "max_tokens": 1000}),
        (
            "/v1/completions",
            {"model": "tensorrt_llm_bls", "prompt": "x", "max_tokens": 1000, "stream": True},
        ),
        (
            "/v1/completions",
            {"model": "tensorrt_llm_bls", "prompt": ["x", "y"], "max_tokens": 99, "stream": True},
        ),
    ],
)
def test_a_client_that_leaves_ends_its_generation_within_two_tokens(front, path, body):
    front.triton.token_s = 0.05
    leave_after(front.url, path, body, 0.3)
    left = [seen["tokens"] for seen in front.triton.seen]
    time.sleep(0.5)
    after = [seen["tokens"] for seen in front.triton.seen]
    assert all(now - then <= 2 for then, now in zip(left, after, strict=True)), (left, after)
    assert front.metric("falconry_front_generations_in_flight") == 0


def test_a_request_goes_on_as_it_came_with_an_id_of_its_own(front):
    body = {"id": "everybody's", "text_input": "x", "max_tokens": 1}
    ids = set()
    for path in (GENERATE, GENERATE, STREAM):
        front.post(path, body)
        sent = dict(front.triton.last["body"])
        ids.add(sent["id"])
        assert sent == {**body, "id": sent["id"], "connection": sent["id"]}
    assert len(ids) == 3


def test_two_streams_of_one_id_are_stopped_each_by_its_own_token(front):
    front.triton.token_s = 0.02
    body = {"id": "same", "text_input": "x", "max_tokens": 500, "stream": True}
    with front.post(STREAM, body, stream=True) as one, front.post(STREAM, body, stream=True) as two:
        lines = [
            (json.loads(each.removeprefix(b"data:")) for each in answer.iter_lines() if each)
            for answer in (one, two)
        ]
        tokens = [next(each)["stop_token"] for each in lines]
        assert tokens == [answer.headers["Falconry-Stop-Token"] for answer in (one, two)]
        assert front.post(GENERATE, {"id": "same", "stop": True}).status_code == 400
        assert "stop_token" not in next(lines[1])
        front.post(GENERATE, {"stop": True, "stop_token": tokens[0]})
        assert list(lines[0])[-1]["finish_reason"] == "cancelled"
        assert "finish_reason" not in next(lines[1])
    assert {tokens[0] in front.log, tokens[1] in front.log} == {False}


@pytest.mark.parametrize(
    "body",
    [
        {"connection": "mine"},
        {"parameters": {"connection": "mine"}},
        {"parameters": {"id": "mine"}, "id": "mine"},
        {"parameters": 5},
        {"parameters": {"max_tokens": "many"}},
        {"id": 5},
    ],
)
def test_what_only_the_front_may_set_cannot_be_smuggled_past_it(front, body):
    refused = front.post(GENERATE, {"text_input": "x", "max_tokens": 1, **body})
    assert refused.status_code == 400, refused.text
    assert front.triton.seen == []


INFER = "/v2/models/tensorrt_llm_bls/infer"
TENSOR = '"name": "text_input", "shape": [1, 1], "datatype": "BYTES"'
REGION = '"parameters": {"shared_memory_region": "secret", "shared_memory_byte_size": 8}'
ESCAPED = REGION.replace("shared_", "shar\\u0065d_")


@pytest.mark.parametrize("packed", [bytes, gzip.compress])
@pytest.mark.parametrize(
    "body",
    [
        f'{{"inputs": [{{{TENSOR}, {REGION}}}]}}',
        f'{{"inputs": [{{{TENSOR}, "data": ["x"]}}], "outputs": [{{"name": "a", {REGION}}}]}}',
        f'{{"inputs": [{{{TENSOR}, {ESCAPED}}}]}}',
    ],
)
@pytest.mark.parametrize("binary", [True, False])
def test_a_region_of_shared_memory_is_refused_in_every_form(front, body, packed, binary):
    headers = {"Content-Encoding": "gzip"} if packed is gzip.compress else {}
    content = body.encode()
    if binary:
        headers["inference-header-content-length"] = str(len(content))
        content += b"\x01\x00\x00\x00x"
    refused = front.post(INFER, None, data=packed(content), headers=headers)
    assert refused.status_code == 400
    assert "shared memory is closed" in refused.json()["error"]
    assert "secret" not in refused.text


def test_triton_reads_what_the_front_has_read(front):
    """Of a field that is given twice Triton takes the first one, and Python the last."""
    twice = f'{{"inputs": [{{{TENSOR}, "data": ["x"], {REGION}, "parameters": {{}}}}]}}'
    front.post(INFER, None, data=twice.encode())
    assert all("shared_memory" not in json.dumps(seen["body"]) for seen in front.triton.seen)


@pytest.mark.parametrize("length", ["-1", "1e1", "999", "\u0661", "", "0x1", "1" * 5000])
def test_a_wrong_length_of_the_json_before_raw_tensors_is_refused(front, length):
    headers = {"Inference-Header-Content-Length": length.encode()}
    refused = front.post(INFER, None, data=b'{"inputs": []}', headers=headers)
    assert refused.status_code == 400, refused.text


@pytest.mark.parametrize(
    "target",
    [
        "/v2/logging",
        "//v2/logging",
        "/v2/./logging",
        "/v2/%6cogging",
        "/v2/systemsharedmemory/status",
        "/v2/health/../logging",
        "/v2/repository/index",
        "/v2/trace/setting?x=/v2",
        "/V2/logging",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_closed_paths_never_reach_triton(front, target, method):
    front.triton.others.clear()
    host, _, port = front.url.removeprefix("http://").partition(":")
    with contextlib.closing(http.client.HTTPConnection(host, int(port), timeout=10)) as connection:
        connection.request(method, target)  # as it stands, which `requests` would tidy
        answer = connection.getresponse()
        assert answer.status == 403
        assert "this is closed" in json.loads(answer.read())["error"]
    assert front.triton.others == []


def exchanged(front, head, body=b""):
    """What the front sends for a head's bytes, and for a body that follows the first answer."""
    host, _, port = front.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head)
        with connection.makefile("rb") as answers:
            first = answers.readline()
            connection.sendall(body)
            return first, answers.read()


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("expected", [b"\x80", b"\xc3\xa9", b"200-ok", b"100-continue, more"])
@pytest.mark.parametrize(
    "target",
    [
        b"GET /v2/health/ready",
        b"POST /v1/completions",
        b"PUT /nowhere",
        b"GET http://here/v1/models",
        b"OPTIONS *",
        b"OPTIONS http://here",
        b"CONNECT here:80",
        b"CONNECT *",
    ],
)
def test_what_else_a_client_expects_is_refused_and_never_the_fronts_failure(
    front, target, expected, version
):
    head = b"%s HTTP/%s\r\nHost: here\r\nConnection: close\r\nExpect: %s\r\n\r\n"
    first, rest = exchanged(front, head % (target, version, expected))
    status = int(first.split()[1])
    assert 200 <= status < 500, first + rest
    assert status == 417 or version == b"1.0"  # which has no expectations


def test_a_body_that_waits_to_be_asked_for_is_asked_for_and_read(front):
    body = json.dumps({"model": "tensorrt_llm_bls", "prompt": "Hello", "max_tokens": 3}).encode()
    head = (
        b"POST /v1/completions HTTP/1.1\r\nHost: here\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\nExpect: 100-Continue\r\n\r\n"
    )
    first, rest = exchanged(front, head % len(body), body)
    assert first == b"HTTP/1.1 100 Continue\r\n"
    assert rest.lstrip().startswith(b"HTTP/1.1 200 OK")


def test_it_is_ready_once_the_front_model_has_answered(tmp_path):
    with running_front(tmp_path, {"failing": "the engine is broken"}) as front:
        wait_until(lambda: "the engine is broken" in front.log)
        for _ in range(3):
            refused = front.get("/v2/health/ready")
            assert refused.status_code == 503
            assert "the engine is broken" in refused.json()["error"]
        front.triton.failing = None
        wait_until_ready(front)
        assert front.log.count("the engine is broken") == 1


@pytest.mark.parametrize("path", ["/health", "/v2/health/ready"])
def test_a_health_check_costs_no_generation_and_reports_what_triton_says(tmp_path, path):
    with running_front(tmp_path) as front:
        wait_until_ready(front)
        for _ in range(5):
            assert front.get(path).status_code == 200
        front.triton.ready = False
        refused = front.get(path)  # Triton's own status is 400
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert front.triton.seen == []


def test_a_server_without_requests_gets_a_generation_of_one_token_now_and_then(tmp_path):
    with running_front(tmp_path, probe_period_s=0.2) as front:
        wait_until_ready(front)
        wait_until(lambda: len(front.triton.seen) > 1)
        assert {seen["body"]["max_tokens"] for seen in front.triton.seen} == {1}
        assert front.process.poll() is None


def test_while_answers_flow_no_generation_is_added(tmp_path):
    with running_front(tmp_path, probe_period_s=0.3) as front:
        wait_until_ready(front)
        with occupied(front, tokens=60) as lines:  # 1.2 s
            front.triton.seen[:-1] = []
            assert len([line for line in lines if line]) == 60
            asked = len(front.triton.seen)
        assert asked == 1


def test_a_server_that_hangs_is_not_ready_and_ends(tmp_path):
    settings = {"probe_period_s": 0.2, "probe_timeout_s": 2}
    with running_front(tmp_path, **settings) as front, ThreadPoolExecutor() as pool:
        wait_until_ready(front)
        front.triton.hanging = True
        waiting = pool.submit(front.post, GENERATE, {"text_input": "x", "max_tokens": 1})
        wait_until(lambda: not front.get("/health").ok)
        refused = front.get("/health")
        assert "a generation has no answer" in refused.json()["error"]
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert waiting.result().status_code == 503
        assert waiting.result().headers["Retry-After"] == "1"
        assert front.process.wait(10) == 1
        assert "BrokenServerError: no answer and no work for" in front.log


def test_a_server_that_recovers_is_ready_again(tmp_path):
    settings = {"probe_period_s": 0.2, "probe_timeout_s": 30}
    with running_front(tmp_path, **settings) as front:
        wait_until_ready(front)
        front.triton.failing = "the engine is broken"
        wait_until(lambda: front.get("/health").status_code == 503)
        front.triton.failing = None
        wait_until(lambda: front.get("/health").status_code == 200)


def test_a_server_whose_generations_all_fail_ends(tmp_path):
    with running_front(tmp_path, probe_period_s=0.2) as front:
        wait_until_ready(front)
        front.triton.failing = "the engine is broken"
        assert front.process.wait(20) == 1
        assert "3 generations in a row failed, the last one: the engine is broken" in front.log


def test_a_server_without_a_language_model_is_ready_when_triton_is(tmp_path):
    with running_front(tmp_path, {"has_model": False}) as front:
        wait_until_ready(front)
        refused = front.post("/v1/completions", {"model": "x", "prompt": "y"})
        assert refused.status_code == 404
        assert refused.json()["error"]["message"] == "This server has no language model."


def test_its_metrics_come_with_tritons(front):
    front.post(
        "/v1/completions",
        {"model": "tensorrt_llm_bls", "prompt": "a b c", "max_tokens": 5, "stream": True},
    )
    response = front.get("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = response.text.splitlines()
    assert "nv_inference_count 7" in lines
    assert any(
        line.startswith('falconry_front_first_text_seconds_bucket{le="60.0",route="completions"}')
        for line in lines
    )
    # The format: every line is a comment or a sample (Prometheus, exposition formats).
    sample = re.compile(r"[a-zA-Z_:][\w:]*(\{[^}]*\})? [-+]?(\d|Inf|NaN).*")
    assert all(line.startswith("#") or sample.fullmatch(line) for line in lines)
    before = front.metric('falconry_front_openai_tokens_total{kind="completion"}')
    front.post("/v1/completions", {"model": "tensorrt_llm_bls", "prompt": "a b c", "max_tokens": 5})
    after = front.metric('falconry_front_openai_tokens_total{kind="completion"}')
    assert after - before == 5


@pytest.mark.parametrize("name", ["x-request-id", "opc-request-id"])
def test_a_requests_id_is_given_back_and_logged_without_any_text(front, name):
    given = f"id-{time.monotonic_ns()}"
    body = {"model": "tensorrt_llm_bls", "prompt": SECRET, "max_tokens": 3}
    answer = front.post("/v1/completions", body, headers={name: given})
    assert answer.headers["x-request-id"] == given
    (line,) = [line for line in front.log.splitlines() if given in line]
    for fact in ("POST /v1/completions 200", "prompt_tokens 7", "completion_tokens 3", "total_s"):
        assert fact in line
    assert SECRET not in front.log
    assert "w0" not in front.log


def test_an_id_that_would_break_the_log_is_replaced(front):
    answer = front.post(
        GENERATE, {"text_input": "x", "max_tokens": 1}, headers={"x-request-id": "a b"}
    )
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


def test_a_path_cannot_break_the_log(front):
    front.post("/v2/models/a%0Afront:%20forged/generate", {})
    assert "\nfront: forged" not in front.log


def test_a_stream_that_breaks_off_says_so(front):
    body = {"text_input": "break off", "max_tokens": 9, "stream": True}
    answer = front.post(STREAM, body)
    lines = answer.text.split("\n\n")
    assert [json.loads(line.removeprefix("data:")) for line in lines if line] == [
        {"stop_token": answer.headers["Falconry-Stop-Token"], "text_output": "w0 "},
        {"text_output": "w1 "},
        {"error": "the server has broken off"},
    ]


def test_a_body_that_is_too_large_is_refused_in_the_apis_own_form(front):
    def body():
        for _ in range(11):
            yield b" " * (1 << 20)

    for path, find in (
        (GENERATE, lambda answer: answer["error"]),
        ("/v1/completions", lambda answer: answer["error"]["message"]),
    ):
        refused = requests.post(f"{front.url}{path}", data=body(), timeout=30)
        assert refused.status_code == 413
        assert "10485760" in find(refused.json())


@pytest.mark.parametrize("told", ["the front", "Triton"])
def test_running_streams_end_well_when_the_server_stops(tmp_path, told):
    with running_front(tmp_path) as front:
        wait_until_ready(front)
        with occupied(front, tokens=60) as lines:  # 1.2 s
            front.stop() if told == "the front" else front.triton.close_port()
            wait_until(lambda: front.get("/v2/health/ready").status_code == 503)
            refused = front.post(GENERATE, {"text_input": "x", "max_tokens": 1})
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
            last = [line for line in lines if line][-1]
        assert json.loads(last.removeprefix(b"data:"))["completion_tokens"] == 60
        assert front.process.wait(5) == 0


@pytest.mark.parametrize("status", [200, 400, 404, 500])
@pytest.mark.parametrize(
    ("path", "field"), [(GENERATE, "text_input"), ("/v1/completions", "prompt")]
)
def test_an_error_of_a_stopping_triton_is_not_the_clients(tmp_path, path, field, status):
    """While Triton unloads its models, it refuses requests under way as if they were wrong."""
    with running_front(tmp_path) as front, ThreadPoolExecutor() as pool:
        wait_until_ready(front)
        front.triton.hanging = True
        body = {"model": "tensorrt_llm_bls", field: f"refuse {status} no such model"}
        asked = pool.submit(front.post, path, body)
        wait_until(lambda: front.triton.seen)
        front.triton.close_port()
        front.triton.hanging = False
        answer = asked.result()
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def test_streams_that_take_too_long_are_broken_off_with_a_word(tmp_path):
    with running_front(tmp_path, drain_s=0.3) as front:
        wait_until_ready(front)
        front.triton.token_s = 0.02
        body = {"model": "tensorrt_llm_bls", "prompt": "x", "max_tokens": 500, "stream": True}
        with front.post("/v1/completions", body, stream=True) as stream:
            lines = stream.iter_lines()
            next(lines)
            started = time.monotonic()
            front.stop()
            *_, error, done = [line for line in lines if line]
        assert time.monotonic() - started < 2
        assert json.loads(error.removeprefix(b"data:"))["error"]["code"] == "unavailable"
        assert done == b"data: [DONE]"
        assert front.process.wait(5) == 0


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MAX_IN_FLIGHT", "0", "FALCONRY_MAX_IN_FLIGHT is '0'; it must be a whole number from 1"),
        ("MAX_QUEUED", "many", "FALCONRY_MAX_QUEUED is 'many'"),
        ("QUEUE_TIMEOUT_S", "nan", "FALCONRY_QUEUE_TIMEOUT_S is 'nan'; it must be a number of"),
        ("MODEL_NAME", "", "FALCONRY_MODEL_NAME is empty"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, name, value, said):
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from settings import FrontSettings, InvalidSettingError\n"
        "try: FrontSettings.from_environment(os.environ)\n"
        "except InvalidSettingError as error: print(error)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, ROOT / "docker/server"],
        env={f"FALCONRY_{name}": value},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said in told.stdout


def test_two_hundred_requests_at_once_of_every_kind_are_each_answered_right(front):
    front.triton.token_s = 0.002
    kinds = [
        (GENERATE, {"text_input": "x", "max_tokens": 3}, 200),
        (STREAM, {"text_input": "x", "max_tokens": 3, "stream": True}, 200),
        (GENERATE, {"text_input": 5}, 400),
        ("/v1/completions", {"model": "tensorrt_llm_bls", "prompt": "x"}, 200),
        ("/v1/completions", {"model": "tensorrt_llm_bls", "prompt": "x", "n": 0}, 400),
        (
            "/v1/chat/completions",
            {"model": "tensorrt_llm_bls", "messages": [{"role": "user", "content": "x"}]},
            200,
        ),
        ("/v1/completions", {"model": "other", "prompt": "x"}, 404),
    ]
    with ThreadPoolExecutor(64) as pool:
        asked = [(kinds[number % len(kinds)], number) for number in range(200)]
        answers = pool.map(lambda each: front.post(each[0][0], each[0][1]).status_code, asked)
        assert list(answers) == [kind[2] for kind, _ in asked]
    assert front.metric("falconry_front_generations_in_flight") == 0
    assert front.metric("falconry_front_generations_queued") == 0
