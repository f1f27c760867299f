"""Triton's `generate_stream` as any client reads it."""

import json

import requests


def stream_events(url, model, body):
    """The events of a model's stream as they come."""
    response = requests.post(
        f"{url}/v2/models/{model}/generate_stream", json=body, stream=True, timeout=120
    )
    assert response.status_code == 200, response.text
    with response:
        for line in response.iter_lines():
            if line:
                yield json.loads(line.removeprefix(b"data: "))
