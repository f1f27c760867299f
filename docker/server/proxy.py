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
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from access import Route, error_without_regions, open_route, refuse_parameters
from admission import Admission, all_of
from aiohttp import web
from compression import encode_answer
from connections import send
from errors import invalid, not_ready
from front_model import CONNECTION, FRONT_MODEL, FrontModel
from infer import (
    BINARY_HEADER,
    InferRequest,
    answer_body,
    answer_tensors,
    check_one_answer,
    with_outputs,
)
from model_configs import ModelConfig, ModelConfigs
from request_bodies import RequestBodies
from request_log import record_of
from running import TOKEN_HEADER, RunningRequest, RunningRequests
from triton_bodies import (
    InvalidBodyError,
    check_generate,
    check_infer,
    generate_fields,
    json_part,
    parse_object,
)
from triton_client import TritonClient, TritonError

# RFC 9110, section 7.6.1: these belong to one connection and are not passed on.
_OF_THE_CONNECTION = frozenset(
    {"connection", "keep-alive", "proxy-authorization", "te", "trailer", "transfer-encoding"}
    | {"upgrade", "host", "content-length"}
)
# And these were for the front, which has read and decompressed the body and looks into answers.
_FOR_THE_FRONT = _OF_THE_CONNECTION | {
    *("expect", "content-encoding", "accept-encoding", "inference-header-content-length")
}
# In which Oracle's samples name the model; the second form is ADS's. Whoever names it expects
# tensors in the answer.
_MODEL_HEADERS = ("model_name", "model-name")
_OK = 200
_BAD_REQUEST = 400
_JSON = "application/json"
_BYTES = "application/octet-stream"
_ERROR = b'{"error":'
_ERROR_EVENT = b'data: {"error"'
_EVENT_STREAM = "text/event-stream"
_EVENT_END = b"\n\n"
_BROKEN_OFF = b'data: {"error":"the server has broken off"}\n\n'


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is requested of which model.

    Attributes:
        model: None where Triton lacks it.
        with_outputs: whether the answer gives its outputs as tensors besides.
    """

    route: Route
    model: ModelConfig | None
    with_outputs: bool = False

    @property
    def outputs_of(self) -> ModelConfig | None:
        """The model whose outputs are given as tensors."""
        return self.model if self.with_outputs else None


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
        self._models = ModelConfigs(triton)

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
            body = await self._bodies.read(request)
            model = await self._models.get(str(route.model))
            if route.verb == "infer":
                return await self._infer(request, route, model, body)
            if BINARY_HEADER in request.headers:
                raise InvalidBodyError(f"{route.verb} takes no raw tensors, so no {BINARY_HEADER}")
            named = any(name in request.headers for name in _MODEL_HEADERS)
            asked = _Asked(route, model, with_outputs=named and route.verb == "generate")
            return await self._generate(request, asked, parse_object(body))
        except InvalidBodyError as error:
            raise invalid(str(error)) from None
        except aiohttp.ClientError:
            raise not_ready() from None

    async def _infer(
        self, request: web.Request, route: Route, model: ModelConfig | None, body: bytes
    ) -> web.StreamResponse:
        """Answers `infer`: tensors, or a body as `generate` takes it."""
        head = json_part(body, request.headers.get(BINARY_HEADER))
        content = parse_object(head)
        raw = body[len(head) :] if BINARY_HEADER in request.headers else None
        if raw is None and model and _has_fields(content, model):
            return await self._generate(
                request, _Asked(route.as_generate(), model, with_outputs=True), content
            )
        check_infer(content)
        refuse_parameters(content, CONNECTION)
        with self._running.begin(content, "infer") as running:
            if model and model.decoupled:
                return await self._answer_tensors(request, route, model, running, raw or b"")
            return await self._forward_in_turn(
                request, _Asked(route, model), running.content, running, raw
            )

    async def _generate(
        self, request: web.Request, asked: _Asked, content: Mapping[str, Any]
    ) -> web.StreamResponse:
        """Answers a body that holds inputs by their names."""
        fields = generate_fields(content)
        if CONNECTION in fields:
            raise InvalidBodyError(f"unknown field: {CONNECTION}")
        check_generate(fields, asked.model.inputs if asked.model else ())
        if asked.route.verb == "generate":
            check_one_answer(fields, request.path.rpartition("/")[2], str(asked.route.model))
        with self._running.begin(fields, str(asked.route.verb)) as running:
            own = {**running.content, **self._name(asked.route, running)}
            return await self._forward_in_turn(request, asked, own, running)

    def _name(self, route: Route, running: RunningRequest) -> dict[str, str]:
        """The parameter by which the front model stops a request."""
        return {CONNECTION: running.unique_id} if route.model == FRONT_MODEL else {}

    async def _answer_tensors(
        self,
        request: web.Request,
        route: Route,
        model: ModelConfig,
        running: RunningRequest,
        raw: bytes,
    ) -> web.StreamResponse:
        """Asks a model for each row of a batch of tensors, and answers with tensors."""
        asked = await asyncio.to_thread(InferRequest.of, running.content, raw, model)
        own = {"id": running.unique_id, **self._name(route, running)}
        for row in asked.rows:
            check_one_answer(row, "infer", model.name)
        try:
            answers = await all_of(self._row(route, {**row, **own}, running) for row in asked.rows)
        except asyncio.CancelledError:
            self._stop(route, running)
            raise
        except TritonError as error:
            reason = running.answer(str(error).encode()).decode(errors="replace")
            raise TritonError(error.status, reason) from None
        self._model.note_answer()
        tensors, data = answer_tensors(answers, asked.outputs, batched=bool(model.max_batch_size))
        head = answer_body(answers[0], tensors, running.client_id)
        response = web.StreamResponse(headers={"Content-Type": _JSON})
        if data:
            response.headers[BINARY_HEADER] = str(len(head))
            response.headers["Content-Type"] = _BYTES
        if running.token:
            response.headers[TOKEN_HEADER] = running.token
        await _send_whole(request, response, head + data)
        return response

    async def _row(
        self, route: Route, body: Mapping[str, Any], running: RunningRequest
    ) -> dict[str, Any]:
        async with self._turn(running):
            return await self._triton.generate(route.versioned_model, body)

    @asynccontextmanager
    async def _turn(self, running: RunningRequest) -> AsyncIterator[None]:
        """A generation's turn; what stops others must not wait for them."""
        if running.stops:
            yield
            return
        async with self._admission.turn():
            yield

    def _stop(self, route: Route, running: RunningRequest) -> None:
        """Stops the generation of a client that has disconnected."""
        if route.model == FRONT_MODEL and not running.stops:
            self._model.stop(running.unique_id)

    async def _forward_in_turn(
        self,
        request: web.Request,
        asked: _Asked,
        content: Mapping[str, Any],
        running: RunningRequest,
        raw: bytes | None = None,
    ) -> web.StreamResponse:
        body = json.dumps(content, ensure_ascii=False).encode()
        headers = {}
        if raw is not None:
            headers[BINARY_HEADER] = str(len(body))
            body += raw
        async with self._turn(running):
            try:
                return await self._forward(
                    request, asked.route, body, headers, running, asked.outputs_of
                )
            except (ConnectionResetError, asyncio.CancelledError):
                self._stop(asked.route, running)
                raise

    async def _forward(
        self,
        request: web.Request,
        route: Route,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        running: RunningRequest | None = None,
        outputs_of: ModelConfig | None = None,
    ) -> web.StreamResponse:
        """Sends a request to Triton, and its answer to the client.

        Args:
            request: the client's.
            route: its route.
            body: for Triton.
            headers: for Triton, besides the client's.
            running: the request whose ids are in the answer.
            outputs_of: the model whose outputs the answer gives as tensors besides.
        """
        sent = {**_forwarded(request.headers), **(headers or {})}
        async with self._triton.request(request.method, route.path, sent, body) as answer:
            response = web.StreamResponse(
                status=answer.status,
                headers=_without(_OF_THE_CONNECTION, answer.headers),
            )
            if running and running.token and answer.status == _OK:
                response.headers[TOKEN_HEADER] = running.token
            if answer.content_type == _EVENT_STREAM:
                await response.prepare(request)
                await self._forward_events(request, response, answer, running)
            else:
                await self._forward_whole(request, response, answer, running, outputs_of)
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
        outputs_of: ModelConfig | None,
    ) -> None:
        """Sends an answer in one piece."""
        content = await answer.read()
        self._note_answer(answer, content, running)
        head = json_part(content, answer.headers.get(BINARY_HEADER))
        own = error_without_regions(running.answer(head) if running else head)
        if answer.status == _OK and content.startswith(_ERROR):
            # Triton's status is that of the first of several responses.
            await self._triton.require_sound()
            response.set_status(_BAD_REQUEST)
        elif outputs_of and answer.status == _OK:
            own = with_outputs(own, outputs_of)
        if BINARY_HEADER in answer.headers:
            response.headers[BINARY_HEADER] = str(len(own))
        await _send_whole(request, response, own + content[len(head) :])

    def _note_answer(
        self, answer: aiohttp.ClientResponse, content: bytes, running: RunningRequest | None
    ) -> None:
        """Notes that the model answers, where this is an answer of it."""
        if running and answer.status == _OK and not content.startswith(_ERROR_EVENT):
            self._model.note_answer()


async def _send_whole(request: web.Request, response: web.StreamResponse, content: bytes) -> None:
    """Sends a complete answer, in the coding that its client prefers."""
    sent = encode_answer(request, response, content)
    response.content_length = len(sent)
    await response.prepare(request)
    await send(request, response, sent)
    record_of(request).text_sent()


def _has_fields(content: Mapping[str, Any], model: ModelConfig) -> bool:
    """Whether a body is one of `generate`: it has a model's input by name, and no tensors."""
    nested = content.get("parameters")
    names = content.keys() | (nested.keys() if isinstance(nested, dict) else set())
    return "inputs" not in content and any(each.name in names for each in model.inputs)


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
