"""Streams of a real deployment of local_oci: as they come, to the trailer that tells their end."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from falconry.endpoint import Endpoint, RefusedError, StreamFailureError
from falconry.endpoint.client import RetryBudget
from falconry.errors import EndpointError
from tests.falconry.endpoint.conftest import deploy
from tests.local_oci.support import LocalCloud, Sdk

Script = Callable[..., dict[str, Any]]
EVENTS = "v2/models/ensemble/generate_stream"


@pytest.mark.parametrize(
    "kind", ["text/event-stream", "text/event-stream; charset=utf-8", "Text/Event-Stream;x=1"]
)
def test_events_are_read_whatever_follows_their_content_type(
    endpoint: Endpoint, script: Script, kind: str
) -> None:
    # The SDK's own client reads only the first of these as events.
    request = script(b"data: a\n\n", b"data: b\n\n", type=kind)
    assert list(endpoint.pieces(request, EVENTS)) == ["a", "b"]


def test_text_that_is_no_event_stream_comes_as_it_is_sent(
    endpoint: Endpoint, script: Script
) -> None:
    request = script(b"one ", b"two", type="text/plain", pause=0.05)
    assert list(endpoint.pieces(request, EVENTS)) == ["one ", "two"]


@pytest.mark.parametrize("kind", ["text/event-stream", "text/plain"])
def test_a_character_may_be_spread_over_chunks(
    endpoint: Endpoint, script: Script, kind: str
) -> None:
    content = "data: 🦅 Füchse\n\n".encode()
    chunks = [content[i : i + 1] for i in range(len(content))]
    told = "".join(endpoint.pieces(script(*chunks, type=kind), EVENTS))
    assert told in ("🦅 Füchse", "data: 🦅 Füchse\n\n")


def test_a_piece_is_there_before_the_next_one_is_made(endpoint: Endpoint, script: Script) -> None:
    began = time.monotonic()
    pieces = endpoint.pieces(script(*[b"data: x\n\n"] * 4, pause=0.3), EVENTS)
    assert next(pieces) == "x"
    assert time.monotonic() - began < 0.8
    assert list(pieces) == ["x"] * 3


def test_the_text_of_an_answer_streams(endpoint: Endpoint, script: Script) -> None:
    # Triton's generate_stream: an event a response (triton-inference-server/server,
    # extension_generate.md).
    chunks = [
        b'data: {"model_name":"ensemble","text_output":"%s"}\n\n' % word for word in (b"a ", b"b")
    ]
    request = script(*chunks)
    assert list(endpoint.stream(request)) == ["a ", "b"]


def test_an_error_in_the_middle_of_a_stream_is_told(endpoint: Endpoint, script: Script) -> None:
    chunks = [b'data: {"text_output":"a"}\n\n', b'data: {"error":"out of cache"}\n\n']
    request = script(*chunks)
    pieces = endpoint.stream(request)
    assert next(pieces) == "a"
    with pytest.raises(EndpointError, match="out of cache"):
        next(pieces)


def test_a_stream_that_falls_silent_ends_with_what_the_trailer_says(
    endpoint: Endpoint, script: Script, scripted_cloud: LocalCloud
) -> None:
    scripted_cloud.fault(kind="timeout", operation="predict_with_response_stream", seconds=0.3)
    pieces = endpoint.pieces(script(b"data: 0\n\n", then="silence"), EVENTS)
    assert next(pieces) == "0"
    with pytest.raises(StreamFailureError, match=r"RequestTimeout.*make logs") as told:
        next(pieces)
    assert told.value.code == "RequestTimeout"


def test_a_stream_whose_server_dies_ends_with_what_the_trailer_says(
    sdk: Sdk, script: Script
) -> None:
    dying = deploy(sdk)
    endpoint = Endpoint(dying.model_deployment_url, sdk.signer)
    with pytest.raises(StreamFailureError) as told:
        list(endpoint.pieces(script(b"data: 0\n\n", then="die"), EVENTS))
    assert told.value.code == "ServiceUnavailable"
    sdk.delete(dying.id)


def test_a_stream_whose_connection_is_cut_is_one_sentence(
    endpoint: Endpoint, script: Script, scripted_cloud: LocalCloud
) -> None:
    scripted_cloud.fault(
        kind="cut_response", operation="predict_with_response_stream", afterBytes=20
    )
    with pytest.raises(EndpointError, match="the answer is incomplete"):
        list(endpoint.pieces(script(*[b"data: x\n\n"] * 50), EVENTS))


def test_a_client_waits_no_longer_than_it_is_told(
    sdk: Sdk, deployment: Any, script: Script
) -> None:
    hasty = Endpoint(deployment.model_deployment_url, sdk.signer, RetryBudget(read=0.3))
    with pytest.raises(EndpointError, match=r"in time.*60 s"):
        list(hasty.pieces(script(b"data: x\n\n", then="silence"), EVENTS))


@pytest.mark.parametrize("content", [b"data: \xff\n\n", b"data: \xe2\x82"])
def test_bytes_that_are_no_text_are_one_sentence(
    endpoint: Endpoint, script: Script, content: bytes
) -> None:
    with pytest.raises(EndpointError, match=r"broken: the bytes .* are not utf-8"):
        list(endpoint.pieces(script(content), EVENTS))


def test_an_event_that_is_no_json_is_one_sentence(endpoint: Endpoint, script: Script) -> None:
    request = script(b"data: <html>\n\n")
    with pytest.raises(EndpointError, match="not a JSON object: <html>"):
        list(endpoint.stream(request))


def test_a_refusal_in_the_form_of_a_stream_says_its_reason(
    endpoint: Endpoint, script: Script
) -> None:
    # The bytes that Triton 2.51 sends for max_tokens -1 on generate_stream.
    said = "in ensemble 'ensemble', max_tokens is -1: ask for at least 1"
    refusal = f'data: {{"error":"{said}"}}\n\n'.encode()
    with pytest.raises(RefusedError, match=f"400: {said}") as told:
        list(endpoint.stream(script(refusal, status=400)))
    assert told.value.status == 400


def test_a_stream_without_an_answer_is_told(endpoint: Endpoint, script: Script) -> None:
    with pytest.raises(EndpointError, match=r"before it began.*max_tokens"):
        list(endpoint.stream(script()))


def test_an_answer_in_one_piece_is_explained(endpoint: Endpoint) -> None:
    with pytest.raises(RefusedError, match="409 ExternalServerIncorrectState") as told:
        list(endpoint.pieces({}, "other"))
    assert "ask without STREAM" in str(told.value)


def test_a_path_that_is_not_open_is_explained(endpoint: Endpoint) -> None:
    with pytest.raises(RefusedError, match=r"404 .*custom endpoint"):
        list(endpoint.pieces({}, "v3/closed"))


def test_a_long_stream_is_not_kept(endpoint: Endpoint, script: Script) -> None:
    event = b"data: " + b"x" * 65_536 + b"\n\n"
    request = script(*[event] * 100)  # 6.5 MB
    size, pieces = 0, endpoint.pieces(request, EVENTS)
    next(pieces)
    tracemalloc.start()
    for piece in pieces:
        size += len(piece)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size == 99 * 65_536
    assert most < 2_000_000


def test_a_stream_that_is_left_early_costs_the_next_request_nothing(
    endpoint: Endpoint, script: Script
) -> None:
    pieces = endpoint.pieces(script(*[b"data: x\n\n"] * 9, pause=0.1), EVENTS)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert list(endpoint.pieces(script(b"data: y\n\n"), EVENTS)) == ["y"]
