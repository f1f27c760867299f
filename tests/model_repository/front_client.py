"""How tests ask the front model of a real Triton, over HTTP and gRPC as any client would."""

import json
import re
import time

import numpy as np
import requests
import tritonclient.grpc as grpc

from tests.model_repository.streams import stream_events

CLOUD = "Explain Cloud Computing to a school kid"
# Long enough to be cancelled in the middle.
LONG = {"text_input": CLOUD, "max_tokens": 480, "end_id": -1}


def post(url, body, path="generate"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return requests.post(f"{url}/v2/models/tensorrt_llm_bls/{path}", data=data, timeout=120)


def generate(server, prompt=CLOUD, max_tokens=128, **options):
    body = {"text_input": prompt, "max_tokens": max_tokens, **options}
    response = post(server.url, body)
    assert response.status_code == 200, response.text
    return response.json()


def events(server, body):
    """The events of a stream as they come."""
    return stream_events(server.url, "tensorrt_llm_bls", {"stream": True, **body})


def stream(server, prompt=CLOUD, max_tokens=128, **options):
    """The texts of a stream, and its last event."""
    body = {"text_input": prompt, "max_tokens": max_tokens, **options}
    received = list(events(server, body))
    return [event["text_output"] for event in received], received[-1]


def metric(server, name):
    for line in requests.get(server.metrics, timeout=10).text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.rpartition(" ")[2])
    raise AssertionError(f"no metric {name}")


def eventually(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("it did not come about")


def tokens_when_it_left(server, request_id):
    """After how many tokens the inner request of a request left the engine."""
    # The front makes a longer id of it.
    line = rf'request \\"{request_id}(?:\.[0-9a-f]+)?\\" as (front-[0-9a-f-]+): cancelled'
    inner = eventually(lambda: re.search(line, server.log.read_text()))[1]
    left = rf'request \\"{inner}\\" left the engine after (\d+) tokens'
    return int(eventually(lambda: re.search(left, server.log.read_text()))[1])


def grpc_inputs(text, max_tokens, stream=True):
    values = {
        "text_input": ("BYTES", np.array([[text.encode()]], np.object_)),
        "max_tokens": ("INT32", np.array([[max_tokens]], np.int32)),
        "end_id": ("INT32", np.array([[-1]], np.int32)),
        "stream": ("BOOL", np.array([[stream]], np.bool_)),
    }
    inputs = []
    for name, (kind, value) in values.items():
        inputs.append(grpc.InferInput(name, [1, 1], kind))
        inputs[-1].set_data_from_numpy(value)
    return inputs
