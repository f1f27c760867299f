"""The official OpenAI client on a deployment of local_oci."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from falconry.endpoint import StreamFailureError, openai_client
from falconry.endpoint.openai_api import openai_client_of
from falconry.errors import CloudError
from tests.local_oci.support import LocalCloud, Sdk

Script = Callable[..., dict[str, Any]]
QUESTION: list[Any] = [{"role": "user", "content": "Why is the sky blue?"}]


@pytest.fixture
def client(sdk: Sdk, deployment: Any) -> Any:
    return openai_client_of(deployment.model_deployment_url, sdk.signer)


def delta(text: str) -> bytes:
    """An event of a streamed chat completion, in OpenAI's form."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "falcon"}
    return f"data: {json.dumps({**chunk, 'choices': [choice]})}\n\n".encode()


def test_a_profile_is_enough(profile: Callable[..., Path], deployment: Any) -> None:
    path = profile(deployment.display_name)
    answer = openai_client(profile=path).models.with_raw_response.list()
    assert json.loads(answer.text) == {"path": "/v1/models", "method": "GET"}


def test_a_profile_without_a_deployment_is_one_sentence(profile: Callable[..., Path]) -> None:
    path = profile("nothing")
    with pytest.raises(CloudError, match="nothing is deployed; run: make deploy PROFILE=scripted"):
        openai_client(profile=path)


def test_a_whole_answer_comes_from_predict(client: Any, scripted_cloud: LocalCloud) -> None:
    answer = client.chat.completions.with_raw_response.create(model="falcon", messages=QUESTION)
    told = json.loads(answer.text)
    assert told["path"] == "/v1/chat/completions"
    assert told["body"]["messages"] == QUESTION
    assert not any("Bearer" in value for value in told["headers"].values())
    assert "/predict/v1/chat/completions" in str(answer.http_request.url)


def test_a_stream_comes_from_the_route_that_streams(client: Any, script: Script) -> None:
    chunks = script(delta("Be"), delta("cause"), b"data: [DONE]\n\n", type="text/event-stream;a=b")
    stream = client.chat.completions.create(
        model="falcon", messages=QUESTION, stream=True, extra_body=chunks
    )
    assert "/predictWithResponseStream/v1/chat/completions" in str(stream.response.url)
    assert "".join(chunk.choices[0].delta.content for chunk in stream) == "Because"


def test_a_stream_that_breaks_off_is_not_taken_for_a_whole_one(
    client: Any, script: Script, scripted_cloud: LocalCloud
) -> None:
    # The OpenAI client itself ends such a stream as if it were complete.
    scripted_cloud.fault(kind="timeout", operation="predict_with_response_stream", seconds=0.3)
    stream = client.chat.completions.create(
        model="falcon",
        messages=QUESTION,
        stream=True,
        extra_body=script(delta("Be"), then="silence"),
    )
    assert next(stream).choices[0].delta.content == "Be"
    with pytest.raises(StreamFailureError, match="RequestTimeout"):
        next(stream)


def test_a_refusal_is_openais_own_error_and_is_not_asked_again(
    client: Any, scripted_cloud: LocalCloud
) -> None:
    import openai

    scripted_cloud.fault(kind="status", path="*/predict/v1/*", status=503, times=1)
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="falcon", messages=QUESTION)
    client.chat.completions.with_raw_response.create(model="falcon", messages=QUESTION)


def test_other_routes_need_no_body(client: Any) -> None:
    answer = client.models.with_raw_response.list()
    assert json.loads(answer.text) == {"path": "/v1/models", "method": "GET"}
