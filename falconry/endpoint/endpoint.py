"""One deployment for its clients: complete answers, streams, custom endpoints."""

from __future__ import annotations

import codecs
import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from falconry.endpoint.client import DeploymentClient, RequestSigner, RetryBudget
from falconry.endpoint.errors import LostError, RefusedError, json_object, request_error
from falconry.endpoint.events import EVENT_STREAM, BadStreamError, Event, events_of, text_of
from falconry.errors import EndpointError

PREDICT, STREAM = "predict", "predictWithResponseStream"
MODEL_HEADERS = {"model_name": "tensorrt_llm_bls", "model_version": "1"}
# Triton has another route for streams than for complete answers, so it is a custom endpoint.
GENERATE_STREAM = "v2/models/tensorrt_llm_bls/generate_stream"
_SMOKE_DEADLINE_S = 120.0
_SMOKE_PAUSE_S = 0.2
# Lost connections during a smoke test: more of them are the deployment's fault, not the network's.
_MOST_LOST = 3
_NOT_YET = frozenset({429, 502, 503})
_MOST_QUOTED = 500


class Endpoint:
    """One deployment; used by one thread or many.

    Args:
        url: the deployment's URL, without `/predict`.
        budget: how long to wait for connections, bytes and the server's readiness.
    """

    def __init__(self, url: str, signer: RequestSigner, budget: RetryBudget | None = None) -> None:
        self._url = url.rstrip("/")
        self._client = DeploymentClient(signer, budget or RetryBudget())

    def answer(self, prompt: str, max_tokens: int) -> str:
        """The text that follows a prompt, greedily.

        Raises:
            EndpointError: the request was refused or got no answer.
        """
        return self.text_of(self.predict(self.body(prompt, max_tokens)))

    def body(self, prompt: str, max_tokens: int) -> dict[str, Any]:
        """A request in the form that `/predict` takes, whatever it is mapped to."""
        return {"text_input": prompt, "max_tokens": max_tokens}

    def predict(
        self,
        body: Mapping[str, Any],
        headers: Mapping[str, str] = MODEL_HEADERS,
        suffix: str = "",
    ) -> dict[str, Any]:
        """Sends any body to `/predict`, once, and gives the JSON answer.

        `suffix` is that of a custom endpoint, such as `v2/models/tensorrt_llm_bls/generate`;
        Triton's own route needs the model's name and version as headers.

        Raises:
            EndpointError: the request was refused, or the answer is not a JSON object.
        """
        return self.call("POST", suffix, body, headers)

    def call(
        self,
        method: str,
        suffix: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] = MODEL_HEADERS,
    ) -> dict[str, Any]:
        """Calls a custom endpoint below `/predict`, with any method.

        Raises:
            EndpointError: the request was refused, or the answer is not a JSON object.
        """
        with self._answer(PREDICT, method, suffix, body, headers) as response:
            content = response.read()
        answer = json_object(content)
        if answer is None:
            raise EndpointError("the answer is not a JSON object", where=str(response.url))
        return answer

    def stream(self, body: Mapping[str, Any]) -> Iterator[str]:
        """The text that answers a request, in pieces as they are generated.

        Args:
            body: as `body` makes it, or with anything else that the model takes.

        Raises:
            EndpointError: the request was refused, or the stream broke off.
        """
        answered = False
        for piece in self.pieces({**body, "stream": True}, GENERATE_STREAM):
            answered = True
            yield self._text_of_piece(piece)
        if not answered:
            # So Triton answers a request that lacks an input (seen with 2.51, generate_stream).
            raise EndpointError(
                "the stream ended before it began",
                where=self._url,
                remedy="give every input that the model requires, such as max_tokens",
            )

    def pieces(
        self,
        body: Mapping[str, Any],
        suffix: str = "",
        headers: Mapping[str, str] = MODEL_HEADERS,
    ) -> Iterator[str]:
        """Sends any body to `/predictWithResponseStream`, and streams the answer.

        Yields:
            The data of each Server-Sent Event, or pieces of text where the answer is no event
            stream.

        Raises:
            EndpointError: the request was refused, the bytes are not what they should be, or the
                stream broke off (`StreamFailureError` when the gateway says so).
        """
        with (
            self._answer(STREAM, "POST", suffix, body, headers) as response,
            _translate_bad_stream(response),
        ):
            kind, charset = _content_type(response)
            if kind == EVENT_STREAM:
                yield from (event.data for event in events_of(response.iter_raw()))
            else:
                yield from text_of(response.iter_raw(), charset)

    def events(
        self,
        body: Mapping[str, Any],
        suffix: str = "",
        headers: Mapping[str, str] = MODEL_HEADERS,
    ) -> Iterator[Event]:
        """As `pieces`, with the events' names, whatever the answer calls itself."""
        with (
            self._answer(STREAM, "POST", suffix, body, headers) as response,
            _translate_bad_stream(response),
        ):
            yield from events_of(response.iter_raw())

    def text_of(self, answer: Mapping[str, Any]) -> str:
        """The text in an answer of `generate` or `infer`."""
        text = answer.get("text_output")
        if text is not None:
            return str(text)
        outputs = answer.get("outputs")
        for tensor in outputs if isinstance(outputs, list) else []:
            match tensor:
                case {"name": "text_output", "data": [text, *_]}:
                    return str(text)
        quoted = json.dumps(answer, ensure_ascii=False)[:_MOST_QUOTED]
        raise EndpointError(f"there is no text_output in {quoted}", where=self._url)

    def smoke(self) -> None:
        """Requests one token, waiting while the server is still starting.

        Lost connections are retried: they say nothing of the deployment, and rolling back to
        another model because of one would be a mistake.

        Raises:
            EndpointError: it refuses, or does not answer in two minutes.
        """
        deadline, lost = time.monotonic() + _SMOKE_DEADLINE_S, 0
        while True:
            try:
                self.answer("Hello", 1)
            except RefusedError as refusal:
                if refusal.status not in _NOT_YET or time.monotonic() > deadline:
                    raise
            except LostError:
                lost += 1
                if lost > _MOST_LOST or time.monotonic() > deadline:
                    raise
            else:
                return
            time.sleep(_SMOKE_PAUSE_S)

    def close(self) -> None:
        """Closes idle connections."""
        self._client.close()

    @contextlib.contextmanager
    def _answer(
        self,
        path: str,
        method: str,
        suffix: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
    ) -> Iterator[httpx.Response]:
        """An answer of 2xx whose body has not been read."""
        url = "/".join([self._url, path, *([suffix.lstrip("/")] if suffix else [])])
        content = None if body is None else _json(body, url)
        try:
            with self._client.stream(
                method,
                url,
                content=content,
                headers={"content-type": "application/json", **headers},
            ) as response:
                if not response.is_success:
                    raise RefusedError.of(response)
                yield response
        except httpx.RequestError as error:
            raise request_error(error, url) from None
        except httpx.InvalidURL as error:
            raise EndpointError(f"is not a valid URL: {error}", where=url) from None

    def _text_of_piece(self, piece: str) -> str:
        answer = json_object(piece)
        if answer is None:
            raise EndpointError(
                f"an event is not a JSON object: {piece[:_MOST_QUOTED]}", where=self._url
            )
        if "error" in answer:
            raise EndpointError(
                f"the stream was cut off: {answer['error']}",
                where=self._url,
                remedy="see make logs",
            )
        return self.text_of(answer)


@contextlib.contextmanager
def _translate_bad_stream(response: httpx.Response) -> Iterator[None]:
    try:
        yield
    except BadStreamError as error:
        raise EndpointError(f"the stream is broken: {error}", where=str(response.url)) from None


def _content_type(response: httpx.Response) -> tuple[str, str]:
    """The media type without parameters, and a known charset or UTF-8."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    charset = response.charset_encoding or "utf-8"
    try:
        b"".decode(charset)  # refuses codecs that are not of text, such as zip
        codecs.getincrementaldecoder(charset)
    except (LookupError, UnicodeError):
        charset = "utf-8"
    return kind, charset


def _json(body: Mapping[str, Any], url: str) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise EndpointError("the request holds bytes that are not text", where=url) from None
