"""A proxy for Triton's API that answers 400 to invalid bodies.

Bodies of `generate`, `generate_stream` and `infer` are checked, and these requests wait for their
turn like all generations. Data is streamed in both directions. When a client disconnects, the proxy
asks the front model to stop that client's request.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
from admission import Admission
from aiohttp import web
from errors import invalid, not_ready
from front_model import CONNECTION, FRONT_MODEL, FrontModel
from request_log import record_of
from triton_bodies import InvalidBodyError, ModelInput, check_generate, check_infer, parse_object
from triton_client import TritonClient

_MODEL_PATH = re.compile(
    r"/v2/models/(?P<model>[^/]+)(?:/versions/[^/]+)?/(?P<verb>generate|generate_stream|infer)"
)
# RFC 9110, section 7.6.1: these belong to one connection and are not passed on.
_OF_THE_CONNECTION = frozenset(
    {"connection", "keep-alive", "proxy-authorization", "te", "trailer", "transfer-encoding"}
    | {"upgrade", "host", "content-length"}
)
# With this header the body is JSON followed by raw tensors (KServe's binary data extension).
_BINARY = "Inference-Header-Content-Length"
# A request with one of these is forwarded without a connection of ours.
_HANDLED = frozenset({"stop", CONNECTION})
# Triton's status for an `infer` of a model that streams: as wrong as any other wrong request.
_NOT_FOR_THIS_MODEL = 501
_OK = 200
_ERROR_EVENT = b'data: {"error"'
_EVENT_STREAM = "text/event-stream"
_BROKEN_OFF = b'data: {"error":"the server has broken off"}\n\n'


class TritonProxy:
    """Forwards requests to Triton.

    Args:
        triton: the client of Triton.
        model: the front model, whose requests can be stopped.
        admission: limits the generations under way.
    """

    def __init__(self, triton: TritonClient, model: FrontModel, admission: Admission) -> None:
        self._triton = triton
        self._model = model
        self._admission = admission
        self._inputs: dict[str, list[ModelInput]] = {}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers one request.

        Raises:
            ApiError: the body is not what the model takes, or the server cannot answer now.
        """
        body = await request.read()
        path = _MODEL_PATH.fullmatch(request.path) if request.method == "POST" else None
        try:
            if path is None:
                return await self._forward(request, body)
            content = await self._checked(request, body, path["model"], path["verb"])
            return await self._forward_in_turn(request, body, content, path)
        except InvalidBodyError as error:
            raise invalid(str(error)) from None
        except aiohttp.ClientConnectionError:
            raise not_ready() from None

    async def _checked(
        self, request: web.Request, body: bytes, model: str, verb: str
    ) -> dict[str, Any]:
        """Checks and parses a body; empty if it is not plain JSON."""
        if _BINARY in request.headers or "Content-Encoding" in request.headers:
            return {}
        content = parse_object(body)
        if verb == "infer":
            check_infer(content)
        else:
            check_generate(content, await self._inputs_of(model))
        return content

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
        self, request: web.Request, body: bytes, content: dict[str, Any], path: re.Match[str]
    ) -> web.StreamResponse:
        async with AsyncExitStack() as turn:
            if content.get("stop") is not True:  # what stops others must not wait for them
                await turn.enter_async_context(self._admission.turn())
            if path["model"] != FRONT_MODEL or not content or _HANDLED & set(content):
                return await self._forward(request, body)
            connection = uuid.uuid4().hex
            try:
                named = json.dumps({**content, CONNECTION: connection}).encode()
                return await self._forward(request, named, self._model.note_answer)
            except (ConnectionResetError, asyncio.CancelledError):
                self._model.stop(connection)
                raise

    async def _forward(
        self, request: web.Request, body: bytes, note_answer: Callable[[], None] = lambda: None
    ) -> web.StreamResponse:
        async with self._triton.request(
            request.method, request.raw_path, _end_to_end(request.headers), body
        ) as answer:
            response = web.StreamResponse(
                status=400 if answer.status == _NOT_FOR_THIS_MODEL else answer.status,
                headers=_end_to_end(answer.headers),
            )
            response.content_length = answer.content_length
            await response.prepare(request)
            try:
                async for chunk in answer.content.iter_any():
                    if answer.status == _OK and not chunk.startswith(_ERROR_EVENT):
                        note_answer()
                    await response.write(chunk)
                    record_of(request).text_sent()
            except aiohttp.ClientError:
                # Too late for another status.
                if answer.content_type != _EVENT_STREAM:
                    raise ConnectionResetError from None
                await response.write(_BROKEN_OFF)
            await response.write_eof()
            return response


def _end_to_end(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in headers.items() if name.lower() not in _OF_THE_CONNECTION
    }
