"""How soon the engine's slot is free again once nobody wants the answer.

The tiny model's steps are over before word of it can travel; so a stand-in for NVIDIA's backend
takes as long for each as a 7B model on a data centre's GPU (15 to 40 ms).
"""

import queue
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
import requests
import tritonclient.grpc as grpc

from scripts.real_triton import running_with_all_ports
from tests.model_repository.front_client import (
    CLOUD,
    LONG,
    events,
    eventually,
    grpc_inputs,
    post,
    tokens_when_it_left,
)
from tests.stand_in_backend.engine import LIMITS, stand_in_engine
from tests.stand_in_backend.repository import gpu_repository, stand_in_for_backend

RELEASE = "25.10"
STEP_MS = 75
SLOTS = LIMITS["max_batch_size"]
SEEN = 5
# Counted from the moment when the client, having read SEEN tokens, says `stop` or closes: how many
# more the engine may make before the request has left it, the one in the making included.
TOKENS_MORE = 2


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A repository whose engine's steps are as long as a real one's."""
    directory = tmp_path_factory.mktemp("slots")
    engine = stand_in_engine(directory / "engine", RELEASE)
    made = gpu_repository(engine, RELEASE, directory / "build")
    return stand_in_for_backend(made, STEP_MS)


@pytest.fixture(scope="module")
def front(repository, tmp_path_factory):
    """A Triton with all its ports."""
    with running_with_all_ports(repository, tmp_path_factory.mktemp("front")) as server:
        yield server


def stop(front, request_id):
    """Says `stop`, on another connection."""
    running = events(front, {**LONG, "id": request_id})
    token = next(running)["stop_token"]
    for _ in range(SEEN - 1):
        next(running)
    post(front.url, {"stop_token": token, "stop": True})
    assert list(running)[-1]["finish_reason"] == "cancelled"
    return request_id


def hang_up_on_the_front(front, request_id):
    return hang_up(front.url, request_id)


def hang_up_on_triton(front, request_id):
    port = re.search(r"Started HTTPService at 127\.0\.0\.1:(\d+)", front.log.read_text())[1]
    return hang_up(f"http://127.0.0.1:{port}", request_id)


def hang_up(url, request_id):
    with requests.post(
        f"{url}/v2/models/tensorrt_llm_bls/generate_stream",
        json={**LONG, "id": request_id, "stream": True},
        stream=True,
        timeout=60,
    ) as response:
        lines = (line for line in response.iter_lines() if line)
        for _ in range(SEEN):
            next(lines)
    return request_id


def hang_up_on_openais_api(front, request_id):
    fields = {"model": "tensorrt_llm_bls", "prompt": CLOUD, "max_tokens": 480, "temperature": 0}
    with (
        openai.OpenAI(base_url=f"{front.url}/v1", api_key="none", max_retries=0) as client,
        client.completions.create(**fields, stream=True) as stream,
    ):
        for _, chunk in zip(range(SEEN), stream, strict=False):
            assert chunk.choices[0].text
    return f"{chunk.id}-0"


def cancel_over_grpc(front, request_id):
    received = queue.Queue()
    with grpc.InferenceServerClient(front.grpc) as client:
        client.start_stream(lambda result, error: received.put((result, error)))
        client.async_stream_infer(
            "tensorrt_llm_bls", grpc_inputs(CLOUD, 480), request_id=request_id
        )
        for _ in range(SEEN):
            _, error = received.get(timeout=30)
            assert error is None
        client.stop_stream(cancel_requests=True)
    return request_id


WAYS = [
    stop,
    hang_up_on_the_front,
    hang_up_on_triton,
    hang_up_on_openais_api,
    cancel_over_grpc,
]


@pytest.mark.parametrize("leave", WAYS)
def test_a_request_that_nobody_wants_leaves_the_engine_within_two_tokens(front, leave):
    left = []
    for number in range(5):
        request_id = leave(front, f"{leave.__name__}-{number}")
        left.append(tokens_when_it_left(front, request_id))
    assert max(left) <= SEEN + TOKENS_MORE, left


def test_no_client_stops_the_request_of_another_one(front):
    post(front.url, {**LONG, "max_tokens": 2, "id": "victim"})
    logged = r'"(victim\.[0-9a-f]+)\\" as (front-[0-9a-f-]+)'
    (names,) = eventually(lambda: re.findall(logged, front.log.read_text()))
    victim = events(front, {**LONG, "id": "victim"})
    first = next(victim)
    assert first["id"] == "victim"
    engine = {"input_ids": [0], "input_lengths": 1, "request_output_len": 1, "stop": True}
    guesses = ["victim", *names, *(f"front-{number}" for number in range(5))]
    for guess in guesses:
        for body in (
            {"id": guess, "stop": True},
            {"id": guess, "parameters": {"stop": True}},
            {"id": guess, "connection": guess, "stop": True},
            {"id": guess, "stop": True, "stop_token": f"{guess:16}"},
            {"id": "x", "stop": True, "parameters": {"connection": guess, "id": guess}},
        ):
            post(front.url, body)
            requests.post(f"{front.url}/v2/models/ensemble/generate", json=body, timeout=60)
        url = f"{front.url}/v2/models/tensorrt_llm/generate"
        requests.post(url, json={**engine, "id": guess}, timeout=60)
    assert next(victim)["id"] == "victim"
    post(front.url, {"stop": True, "stop_token": first["stop_token"]})
    assert list(victim)[-1]["finish_reason"] == "cancelled"


def test_who_waits_for_a_slot_has_it_when_another_client_hangs_up(front):
    running = [events(front, {**LONG, "id": f"full-{place}"}) for place in range(SLOTS)]
    for each in running:
        next(each)
    waiting = events(front, {**LONG, "id": "waiting", "max_tokens": 2})
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(next, waiting)
        with pytest.raises(TimeoutError):
            first.result(timeout=10 * STEP_MS / 1000)
        running[0].close()
        assert first.result(timeout=10)["text_output"]
    assert not [each for each in running[1:] if "finish_reason" in next(each)]
    for each in running:
        each.close()


def test_clients_that_leave_while_the_server_stops_do_not_hold_it_up(repository, tmp_path):
    """Triton takes no more connections by then, so the front cannot say `stop`."""
    with running_with_all_ports(repository, tmp_path) as server:
        running = [events(server, {**LONG, "id": f"late-{place}"}) for place in range(4)]
        for each in running:
            next(each)
        leaving = threading.Timer(0.5, lambda: [each.close() for each in running])
        leaving.start()
    leaving.join()
    ended = re.findall(
        r"late-\d.* as front-\S+: (\w+), completion_tokens (\d+)", server.log.read_text()
    )
    assert [reason for reason, _ in ended] == ["cancelled"] * 4
    assert max(int(tokens) for _, tokens in ended) < LONG["max_tokens"] / 2
