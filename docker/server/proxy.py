"""A proxy for the open part of Triton's API that answers 400 to invalid requests.

Bodies of `generate`, `generate_stream` and `infer` are checked, and these requests wait for their
turn like all generations. Triton gets what was read of their JSON, written anew, so that it cannot
read anything else in it: of a field that is given twice it takes the first one. When a client
disconnects, the proxy asks the front model to stop that client's request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
from access import Route, error_without_regions, open_route, refuse_parameters
from admission import Admission
from aiohttp import web
from connections import send
from errors import invalid, not_ready
from front_model import CONNECTION, FRONT_MODEL, FrontModel
from request_bodies import RequestBodies
from request_log import record_of
from running import TOKEN_HEADER, RunningRequest, RunningRequests
from triton_bodies import (
    InvalidBodyError,
    ModelInput,
    check_generate,
    check_infer,
    generate_fields,
    json_part,
    parse_object,
)
from triton_client import TritonClient

# RFC 9110, section 7.6.1: these belong to one connection and are not passed on.
_OF_THE_CONNECTION = frozenset(
    {"connection", "keep-alive", "proxy-authorization", "te", "trailer", "transfer-encoding"}
    | {"upgrade", "host", "content-length"}
)
# And these were for the front, which has read and decompressed the body and looks into answers.
_FOR_THE_FRONT = _OF_THE_CONNECTION | {
    *("expect", "content-encoding", "accept-encoding", "inference-header-content-length")
}
# With this header a body is JSON followed by raw tensors (KServe's binary data extension).
_BINARY = "Inference-Header-Content-Length"
# Triton's status for an `infer` of a model that streams: as wrong as any other wrong request.
_NOT_FOR_THIS_MODEL = 501
_OK = 200
_ERROR_EVENT = b'data: {"error"'
_EVENT_STREAM = "text/event-stream"
_EVENT_END = b"\n\n"
_BROKEN_OFF = b'data: {"error":"the server has broken off"}\n\n'


class TritonProxy:
    """Forwards requests to Triton.

    Args:
        triton: the client of Triton.
        model: the front model, whose requests can be stopped.
        admission: limits the generations under way.
        bodies: reads requests.
    """

    def __init__(
        self,
        triton: TritonClient,
        model: FrontModel,
        admission: Admission,
        bodies: RequestBodies,
    ) -> None:
        self._triton = triton
        self._model = model
        self._admission = admission
        self._bodies = bodies
        self._running = RunningRequests()
        self._inputs: dict[str, list[ModelInput]] = {}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers one request.

        Raises:
            ApiError: the path is closed, the body is not what the model takes, or the server cannot
                answer now.
        """
        route = open_route(request.method, request.rel_url.raw_path)
        try:
            if not route.generates:
                return await self._forward(request, route)
            content, tensors = await self._checked(request, route)
            with self._running.begin(content, str(route.verb)) as running:
                return await self._forward_in_turn(request, route, running, tensors)
        except InvalidBodyError as error:
            raise invalid(str(error)) from None
        except aiohttp.ClientError:
            raise not_ready() from None

    async def _checked(
        self, request: web.Request, route: Route
    ) -> tuple[dict[str, Any], bytes | None]:
        """Reads and checks a body.

        Returns:
            Its JSON, and the raw tensors behind it; None for those where there can be none.
        """
        body = await self._bodies.read(request)
        if route.verb == "infer":
            head = json_part(body, request.headers.get(_BINARY))
            content = parse_object(head)
            check_infer(content)
            refuse_parameters(content, CONNECTION)
            return content, body[len(head) :] if _BINARY in request.headers else None
        if _BINARY in request.headers:
            raise InvalidBodyError(f"{route.verb} takes no raw tensors, so no {_BINARY}")
        content = generate_fields(parse_object(body))
        if CONNECTION in content:
            raise InvalidBodyError(f"unknown field: {CONNECTION}")
        check_generate(content, await self._inputs_of(str(route.model)))
        return content, None

    async def _inputs_of(self, model: str) -> list[ModelInput]:
        """A model's inputs, requested once; none if Triton lacks the model."""
        if model not in self._inputs:
            config = await self._triton.object(f"/v2/models/{model}/config")
            if config is None:
                return []
            self._inputs[model] = [
                ModelInput(each["name"], each["data_type"].removeprefix("TYPE_"))
                for each in config["input"]
            ]
        return self._inputs[model]

    async def _forward_in_turn(
        self, request: web.Request, route: Route, running: RunningRequest, tensors: bytes | None
    ) -> web.StreamResponse:
        named = route.model == FRONT_MODEL and route.verb != "infer"
        name = {CONNECTION: running.unique_id} if named else {}
        body = json.dumps({**running.content, **name}, ensure_ascii=False).encode()
        headers = {}
        if tensors is not None:
            headers[_BINARY] = str(len(body))
            body += tensors
        async with AsyncExitStack() as turn:
            if not running.stops:  # what stops others must not wait for them
                await turn.enter_async_context(self._admission.turn())
            try:
                return await self._forward(request, route, body, headers, running)
            except (ConnectionResetError, asyncio.CancelledError):
                if named and not running.stops:
                    self._model.stop(running.unique_id)
                raise

    async def _forward(
        self,
        request: web.Request,
        route: Route,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        running: RunningRequest | None = None,
    ) -> web.StreamResponse:
        """Sends a request to Triton, and its answer to the client.

        Args:
            request: the client's.
            route: its route.
            body: for Triton.
            headers: for Triton, besides the client's.
            running: the request whose ids are in the answer.
        """
        sent = {**_forwarded(request.headers), **(headers or {})}
        async with self._triton.request(request.method, route.path, sent, body) as answer:
            response = web.StreamResponse(
                status=400 if answer.status == _NOT_FOR_THIS_MODEL else answer.status,
                headers=_without(_OF_THE_CONNECTION, answer.headers),
            )
            if running and running.token and answer.status == _OK:
                response.headers[TOKEN_HEADER] = running.token
            if answer.content_type == _EVENT_STREAM:
                await response.prepare(request)
                await self._forward_events(request, response, answer, running)
            else:
                await self._forward_whole(request, response, answer, running)
            await response.write_eof()
            return response

    async def _forward_events(
        self,
        request: web.Request,
        response: web.StreamResponse,
        answer: aiohttp.ClientResponse,
        running: RunningRequest | None,
    ) -> None:
        first = True
        try:
            async for event in _events(answer):
                self._note_answer(answer, event, running)
                own = error_without_regions(running.answer(event) if running else event)
                if first and running and running.token and answer.status == _OK:
                    own = running.first_event(own)
                first = False
                await send(request, response, own)
                record_of(request).text_sent()
        except aiohttp.ClientError:  # too late for another status
            await send(request, response, _BROKEN_OFF)

    async def _forward_whole(
        self,
        request: web.Request,
        response: web.StreamResponse,
        answer: aiohttp.ClientResponse,
        running: RunningRequest | None,
    ) -> None:
        """Sends an answer in one piece."""
        content = await answer.read()
        self._note_answer(answer, content, running)
        head = json_part(content, answer.headers.get(_BINARY))
        own = error_without_regions(running.answer(head) if running else head)
        if _BINARY in answer.headers:
            response.headers[_BINARY] = str(len(own))
        response.content_length = len(own) + len(content) - len(head)
        await response.prepare(request)
        await send(request, response, own + content[len(head) :])
        record_of(request).text_sent()

    def _note_answer(
        self, answer: aiohttp.ClientResponse, content: bytes, running: RunningRequest | None
    ) -> None:
        """Notes that the model answers, where this is an answer of it."""
        if running and answer.status == _OK and not content.startswith(_ERROR_EVENT):
            self._model.note_answer()


async def _events(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The events of a stream, each with its end; at last what has none."""
    held = bytearray()
    async for part in answer.content.iter_any():
        start = max(0, len(held) - 1)
        held += part
        while (found := held.find(_EVENT_END, start)) >= 0:
            end = found + len(_EVENT_END)
            yield bytes(held[:end])
            del held[:end]
            start = 0
    if held:
        yield bytes(held)


def _forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    """The request headers that are meant for Triton; it needs none that is not ASCII."""
    meant = _without(_FOR_THE_FRONT, headers)
    return {name: value for name, value in meant.items() if value.isascii()}


def _without(names: frozenset[str], headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in names}
