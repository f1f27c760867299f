"""OpenAI's API over HTTP: plain answers, and streams of server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine, Iterable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import aiohttp
from admission import Admission
from aiohttp import web
from bodies import WrongBodyError, parse_object
from generation import FrontModel, Generation, Piece, ServedModel, Usage
from metrics import Metrics
from observation import record_of, refusal_of
from refusals import Refusal, invalid, not_ready, openai_error
from settings import FrontSettings
from upstream import UpstreamError

from .answers import DONE, Answer, ChatAnswer, CompletionAnswer, Envelope, event, to_json
from .requests import Asked, read_chat, read_completion

ResultT = TypeVar("ResultT")
Arrivals = AsyncGenerator[tuple[int, list[Piece]], None]

_STREAM_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
}
_METHODS = {"/v1/completions": "POST", "/v1/chat/completions": "POST", "/v1/models": "GET"}


class OpenAiApi:
    """The handlers.

    Args:
        settings: the model's name and the defaults.
        model: what generates.
        admission: whose turn it is.
        metrics: counts tokens.
        created: when the model began to be served, seconds of Unix time.
    """

    def __init__(
        self,
        settings: FrontSettings,
        model: FrontModel,
        admission: Admission,
        metrics: Metrics,
        created: int,
    ) -> None:
        self._settings = settings
        self._model = model
        self._admission = admission
        self._metrics = metrics
        self._created = created

    @property
    def routes(self) -> list[web.RouteDef]:
        """The routes below /v1, what is not there included."""
        return [
            web.post("/v1/completions", self.complete),
            web.post("/v1/chat/completions", self.chat),
            web.get("/v1/models", self.list_models),
            web.get("/v1/models/{model:.+}", self.show_model),
            web.route("*", "/v1/{path:.*}", _refuse_path),
        ]

    async def list_models(self, request: web.Request) -> web.Response:
        """Lists the one model."""
        return web.json_response({"object": "list", "data": [self._model_object()]})

    async def show_model(self, request: web.Request) -> web.Response:
        """Shows the model.

        Raises:
            Refusal: 404 for any other.
        """
        self._check_name(request.match_info["model"])
        return web.json_response(self._model_object())

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Continues one text or several.

        Raises:
            Refusal: the request is wrong, or cannot be answered now.
            UpstreamError: the model refuses it or fails.
        """
        served = await self._served()
        asked = read_completion(await _body(request))
        answer = CompletionAnswer(self._envelope(served), asked.top_log_probs)
        return await self._answer(request, asked, answer)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Gives the assistant's next message; raises as `complete`."""
        served = await self._served()
        if not served.chat:
            raise invalid(
                "This server's model takes no messages; use /v1/completions.",
                "messages",
                "unsupported_parameter",
            )
        asked = read_chat(await _body(request), self._settings.default_max_tokens)
        answer = ChatAnswer(self._envelope(served), asked.top_log_probs)
        return await self._answer(request, asked, answer)

    async def _served(self) -> ServedModel:
        try:
            served = await self._model.served()
        except aiohttp.ClientError:
            raise not_ready() from None
        if served is None:
            raise Refusal(404, "not_found", "This server has no language model.")
        return served

    def _envelope(self, served: ServedModel) -> Envelope:
        return Envelope(int(time.time()), self._settings.model_name, served.fingerprint)

    def _model_object(self) -> dict[str, Any]:
        return {
            "id": self._settings.model_name,
            "object": "model",
            "created": self._created,
            "owned_by": "falconry",
        }

    def _check_name(self, name: str) -> None:
        if name != self._settings.model_name:
            raise Refusal(
                404,
                "model_not_found",
                f"The model {name!r} does not exist; this server has "
                f"{self._settings.model_name!r}.",
                "model",
            )

    async def _answer(
        self, request: web.Request, asked: Asked, answer: Answer
    ) -> web.StreamResponse:
        self._check_name(asked.model)
        if len(asked.generations) > self._admission.capacity:
            raise invalid(
                f"Invalid 'prompt': {len(asked.generations)} prompts; at most "
                f"{self._admission.capacity} are possible.",
                "prompt",
            )
        record_of(request).facts["as"] = answer.id
        if asked.stream:
            return await self._stream(request, asked, answer)
        pieces = await _all(
            self._whole(each, f"{answer.id}-{index}")
            for index, each in enumerate(asked.generations)
        )
        usage = sum((piece.usage for piece in pieces if piece.usage), Usage(0, 0))
        self._count(request, usage)
        return web.json_response(answer.whole(pieces, usage), dumps=to_json)

    async def _whole(self, generation: Generation, request_id: str) -> Piece:
        async with self._admission.turn():
            return await self._model.whole(generation, request_id)

    async def _stream(
        self, request: web.Request, asked: Asked, answer: Answer
    ) -> web.StreamResponse:
        streams = [
            self._pieces(each, f"{answer.id}-{index}")
            for index, each in enumerate(asked.generations)
        ]
        async with aclosing(_merged(streams)) as arrivals:
            first = await anext(arrivals)  # what is refused until here has its own status
            response = web.StreamResponse(headers=_STREAM_HEADERS)
            await response.prepare(request)
            for index in range(len(streams)):
                for choice in answer.opening(index):
                    await response.write(event(answer.chunk(choice, asked.include_usage)))
            try:
                usage = await self._send(request, response, asked, answer, _after(first, arrivals))
            except (Refusal, UpstreamError) as error:
                refusal = error if isinstance(error, Refusal) else refusal_of(error)
                record_of(request).facts["broken_off"] = refusal.reason
                await response.write(event(openai_error(refusal)))
            else:
                self._count(request, usage)
                if asked.include_usage:
                    await response.write(event(answer.usage_chunk(usage)))
            await response.write(DONE)
            await response.write_eof()
            return response

    async def _send(
        self,
        request: web.Request,
        response: web.StreamResponse,
        asked: Asked,
        answer: Answer,
        arrivals: Arrivals,
    ) -> Usage:
        """Sends what arrives; in one piece what has arrived together."""
        usage = Usage(0, 0)
        async for index, pieces in arrivals:
            choices = [choice for piece in pieces for choice in answer.choices(index, piece)]
            chunks = [answer.chunk(choice, asked.include_usage) for choice in choices]
            if chunks:
                await response.write(b"".join(map(event, chunks)))
                record_of(request).text_sent()
            usage = sum((piece.usage for piece in pieces if piece.usage), usage)
        return usage

    async def _pieces(
        self, generation: Generation, request_id: str
    ) -> AsyncGenerator[list[Piece], None]:
        async with (
            self._admission.turn(),
            aclosing(self._model.pieces(generation, request_id)) as arrivals,
        ):
            async for pieces in arrivals:
                yield pieces

    def _count(self, request: web.Request, usage: Usage) -> None:
        self._metrics.tokens(usage.prompt_tokens, usage.completion_tokens)
        record_of(request).facts["prompt_tokens"] = usage.prompt_tokens
        record_of(request).facts["completion_tokens"] = usage.completion_tokens


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        return parse_object(await request.read())
    except WrongBodyError as wrong:
        raise invalid(str(wrong), reason="invalid_body") from None


async def _refuse_path(request: web.Request) -> web.StreamResponse:
    if request.path in _METHODS:
        raise Refusal(
            405,
            "method_not_allowed",
            f"Not allowed to {request.method} on {request.path}; use {_METHODS[request.path]}.",
        )
    raise Refusal(404, "not_found", f"Invalid URL ({request.method} {request.path}).")


async def _all(waiting: Iterable[Coroutine[Any, Any, ResultT]]) -> list[ResultT]:
    """Waits for all; when one fails the others are ended."""
    tasks = [asyncio.create_task(each) for each in waiting]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _merged(streams: Sequence[AsyncGenerator[list[Piece], None]]) -> Arrivals:
    """What comes from several streams, each with its index, as it comes."""
    if len(streams) == 1:
        async with aclosing(streams[0]) as stream:
            async for pieces in stream:
                yield 0, pieces
        return
    arrived: asyncio.Queue[tuple[int, list[Piece]] | None] = asyncio.Queue()

    async def follow(index: int, stream: AsyncGenerator[list[Piece], None]) -> None:
        try:
            async with aclosing(stream):
                async for pieces in stream:
                    arrived.put_nowait((index, pieces))
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


async def _after(first: tuple[int, list[Piece]], others: Arrivals) -> Arrivals:
    """An arrival that was taken, and those after it."""
    yield first
    async for other in others:
        yield other
