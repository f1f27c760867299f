"""OpenAI's API over HTTP: plain answers, and streams of server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import aiohttp
from admission import Admission, all_of
from aiohttp import web
from connections import send
from errors import ApiError, invalid, not_ready, openai_error, shown
from front_model import Chunk, FrontModel, Generation, ServedModel, Usage
from metrics import Metrics
from request_bodies import RequestBodies
from request_log import api_error_of, record_of
from settings import FrontSettings
from triton_bodies import InvalidBodyError, parse_object
from triton_client import TritonError

from .refusals import refused_by_model
from .requests import CompletionRequest, parse_chat, parse_completion
from .responses import DONE, Answer, ChatAnswer, CompletionAnswer, Envelope, event, to_json

Arrivals = AsyncGenerator[tuple[int, list[Chunk]], None]

_STREAM_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
}
_METHODS = {"/v1/completions": "POST", "/v1/chat/completions": "POST", "/v1/models": "GET"}


class OpenAiApi:
    """The handlers of the routes below /v1.

    Args:
        settings: the model's name and the defaults.
        model: what generates.
        admission: limits the generations under way.
        metrics: counts tokens.
        bodies: reads requests.
        created: when the model began to be served, seconds of Unix time.
    """

    def __init__(
        self,
        settings: FrontSettings,
        model: FrontModel,
        admission: Admission,
        metrics: Metrics,
        bodies: RequestBodies,
        created: int,
    ) -> None:
        self._settings = settings
        self._model = model
        self._admission = admission
        self._metrics = metrics
        self._bodies = bodies
        self._created = created

    @property
    def routes(self) -> list[web.RouteDef]:
        """The routes below /v1, what is not there included."""
        return [
            web.post("/v1/completions", self.complete),
            web.post("/v1/chat/completions", self.chat),
            web.get("/v1/models", self.list_models),
            web.get("/v1/models/", self.list_models),
            web.get("/v1/models/{model:.+}", self.show_model),
            web.route("*", "/v1/{path:.*}", _refuse_path),
        ]

    async def list_models(self, request: web.Request) -> web.Response:
        """Lists the one model."""
        model = self._model_object(await self._served())
        return web.json_response({"object": "list", "data": [model]})

    async def show_model(self, request: web.Request) -> web.Response:
        """Shows the model.

        Raises:
            ApiError: 404 for any other.
        """
        self._check_name(request.match_info["model"])
        return web.json_response(self._model_object(await self._served()))

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Continues one text or several.

        Raises:
            ApiError: the request is wrong, or cannot be answered now.
            TritonError: the model refuses it or fails.
        """
        served = await self._served()
        parsed = parse_completion(await self._body(request))
        answer = CompletionAnswer(self._envelope(served), parsed)
        with refused_by_model(parsed.fields, served.max_tokens):
            return await self._answer(request, parsed, answer)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Gives the assistant's next message; raises as `complete`."""
        served = await self._served()
        if not served.chat:
            raise invalid(
                "This server's model has no chat template, so it takes no messages; send a "
                "'prompt' to /v1/completions.",
                "messages",
                "unsupported_parameter",
            )
        parsed = parse_chat(await self._body(request), self._settings.default_max_tokens)
        answer = ChatAnswer(self._envelope(served), parsed)
        with refused_by_model(parsed.fields, served.max_tokens):
            return await self._answer(request, parsed, answer)

    async def _body(self, request: web.Request) -> dict[str, Any]:
        body = await self._bodies.read(request)
        try:
            return parse_object(body)
        except InvalidBodyError as error:
            raise invalid(str(error), error.field, reason="invalid_body") from None

    async def _served(self) -> ServedModel:
        try:
            served = await self._model.served()
        except aiohttp.ClientError:
            raise not_ready() from None
        if served is None:
            raise ApiError(404, "not_found", "This server has no language model.")
        return served

    def _envelope(self, served: ServedModel) -> Envelope:
        return Envelope(int(time.time()), self._settings.model_name, served.fingerprint)

    def _model_object(self, served: ServedModel) -> dict[str, Any]:
        return {
            "id": self._settings.model_name,
            "object": "model",
            "created": self._created,
            "owned_by": "falconry",
            # vLLM's, by which clients know how long a prompt may be.
            "root": self._settings.model_name,
            "parent": None,
            "max_model_len": served.max_tokens,
        }

    def _check_name(self, name: str) -> None:
        if name != self._settings.model_name:
            raise ApiError(
                404,
                "model_not_found",
                f"The model {shown(name)} does not exist; this server has "
                f"{self._settings.model_name!r}.",
                "model",
            )

    async def _answer(
        self, request: web.Request, parsed: CompletionRequest, answer: Answer
    ) -> web.StreamResponse:
        self._check_name(parsed.model)
        if len(parsed.generations) > self._admission.capacity:
            field = "prompt" if parsed.choices == 1 else "n"
            raise invalid(
                f"Invalid {field!r}: {len(parsed.generations)} answers; at most "
                f"{self._admission.capacity} are possible.",
                field,
            )
        record_of(request).facts["as"] = answer.id
        if parsed.stream:
            return await self._stream(request, parsed, answer)
        chunks = await all_of(
            self._generate(each, f"{answer.id}-{index}")
            for index, each in enumerate(parsed.generations)
        )
        usage = sum(
            (parsed.counted(index, chunk.usage) for index, chunk in enumerate(chunks)), Usage(0, 0)
        )
        self._count(request, usage)
        return web.json_response(answer.complete(chunks, usage), dumps=to_json)

    async def _generate(self, generation: Generation, request_id: str) -> Chunk:
        async with self._admission.turn():
            return await self._model.generate(generation, request_id)

    async def _stream(
        self, request: web.Request, parsed: CompletionRequest, answer: Answer
    ) -> web.StreamResponse:
        streams = [
            self._chunks(each, f"{answer.id}-{index}")
            for index, each in enumerate(parsed.generations)
        ]
        async with aclosing(_merged(streams)) as arrivals:
            first = await anext(arrivals)  # what is refused until here has its own status
            response = web.StreamResponse(headers=_STREAM_HEADERS)
            await response.prepare(request)
            for index in range(len(streams)):
                for choice in answer.opening(index):
                    opening = answer.chunk_object(choice, parsed.include_usage)
                    await send(request, response, event(opening))
            try:
                usage = await self._send(request, response, parsed, answer, _after(first, arrivals))
            except (ApiError, TritonError) as error:
                reported = error if isinstance(error, ApiError) else api_error_of(error)
                record_of(request).facts["broken_off"] = reported.reason
                await send(request, response, event(openai_error(reported)))
            else:
                self._count(request, usage)
                if parsed.include_usage:
                    await send(request, response, event(answer.usage_chunk(usage)))
            await send(request, response, DONE)
            await response.write_eof()
            return response

    async def _send(
        self,
        request: web.Request,
        response: web.StreamResponse,
        parsed: CompletionRequest,
        answer: Answer,
        arrivals: Arrivals,
    ) -> Usage:
        """Sends the chunks; those that arrived together are one write."""
        usage = Usage(0, 0)
        async for index, chunks in arrivals:
            choices = [choice for chunk in chunks for choice in answer.choices(index, chunk)]
            objects = [answer.chunk_object(choice, parsed.include_usage) for choice in choices]
            if objects:
                await send(request, response, b"".join(map(event, objects)))
                record_of(request).text_sent()
            usage = sum((parsed.counted(index, chunk.usage) for chunk in chunks), usage)
        return usage

    async def _chunks(
        self, generation: Generation, request_id: str
    ) -> AsyncGenerator[list[Chunk], None]:
        async with (
            self._admission.turn(),
            aclosing(self._model.stream(generation, request_id)) as arrivals,
        ):
            async for chunks in arrivals:
                yield chunks

    def _count(self, request: web.Request, usage: Usage) -> None:
        self._metrics.tokens(usage.prompt_tokens, usage.completion_tokens)
        record_of(request).facts["prompt_tokens"] = usage.prompt_tokens
        record_of(request).facts["completion_tokens"] = usage.completion_tokens


async def _refuse_path(request: web.Request) -> web.StreamResponse:
    if request.path in _METHODS:
        raise ApiError(
            405,
            "method_not_allowed",
            f"Not allowed to {request.method} on {request.path}; use {_METHODS[request.path]}.",
        )
    raise ApiError(404, "not_found", f"Invalid URL ({request.method} {request.path}).")


async def _merged(streams: Sequence[AsyncGenerator[list[Chunk], None]]) -> Arrivals:
    """Merges streams; each list of chunks has the index of its stream."""
    if len(streams) == 1:
        async with aclosing(streams[0]) as stream:
            async for chunks in stream:
                yield 0, chunks
        return
    arrived: asyncio.Queue[tuple[int, list[Chunk]] | None] = asyncio.Queue()

    async def follow(index: int, stream: AsyncGenerator[list[Chunk], None]) -> None:
        try:
            async with aclosing(stream):
                async for chunks in stream:
                    arrived.put_nowait((index, chunks))
        finally:
            arrived.put_nowait(None)

    tasks = [asyncio.create_task(follow(*numbered)) for numbered in enumerate(streams)]
    try:
        for _ in tasks:
            while (arrival := await arrived.get()) is not None:
                yield arrival
            for task in tasks:
                if task.done():
                    task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _after(first: tuple[int, list[Chunk]], others: Arrivals) -> Arrivals:
    """Puts back an arrival that was taken from a stream."""
    yield first
    async for other in others:
        yield other
