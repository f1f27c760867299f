"""The server's front: one port, Triton behind it, and wrong requests refused with 400.

Bodies of `generate`, `generate_stream` and `infer` are looked at; everything passes through as it
comes, in both directions and chunk by chunk. To a model that takes `stop`, the front says when a
client has hung up: Triton sees that only when it has something to send (2.51, measured;
triton-inference-server/server#7077).
"""

import asyncio
import json
import logging
import re
import signal
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from bodies import ModelInput, WrongBodyError, check_generate, check_infer, parse_object

_MODEL_PATH = re.compile(
    r"/v2/models/(?P<model>[^/]+)(?:/versions/[^/]+)?/(?P<verb>generate|generate_stream|infer)"
)
# OCI's gateway ends a request at 60 s; longer ones come from clients inside the network, and it is
# theirs to give up.
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10)
_LARGEST_BODY = 64 << 20
# RFC 9110, section 7.6.1: these belong to one connection and are not passed on.
_OF_THE_CONNECTION = frozenset(
    {"connection", "keep-alive", "proxy-authorization", "te", "trailer", "transfer-encoding"}
    | {"upgrade", "host", "content-length"}
)
# The request's parameter by which tensorrt_llm_bls knows what a client has hung up on.
_CONNECTION = "connection"
# With this header the body is JSON followed by raw tensors (KServe's binary data extension).
_BINARY = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class _Checked:
    """A request's body as it goes on, and what to send after it if the client hangs up."""

    body: bytes
    stop: dict[str, str | bool] | None = None


def serve(address: str, port: int, upstream: str) -> None:
    """Serves until SIGTERM.

    Args:
        address: where to listen.
        port: the port that the container's contract names.
        upstream: Triton's own URL.

    Raises:
        OSError: the port is taken.
    """
    asyncio.run(_serve(address, port, upstream))


async def _serve(address: str, port: int, upstream: str) -> None:
    application = web.Application(client_max_size=_LARGEST_BODY)
    application.cleanup_ctx.append(Front(upstream).lifetime)
    runner = web.AppRunner(application, handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, address, port).start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await runner.cleanup()


class Front:
    """Passes requests on to Triton.

    Args:
        upstream: Triton's URL.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._inputs: dict[str, list[ModelInput]] = {}
        self._stopping: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession

    async def lifetime(self, application: web.Application) -> AsyncIterator[None]:
        """Opens the connections to Triton with the application and closes them with it."""
        application.router.add_route("*", "/{path:.*}", self.handle)
        # Bytes pass as they are: what Triton compressed for the client stays so. No connection is
        # kept: Triton 2.51 told to stop waits its whole exit timeout, 30 s, for an open one.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            auto_decompress=False,
            timeout=_NO_TIMEOUT,
        )
        yield
        await self._session.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers one request."""
        body = await request.read()
        try:
            checked = await self._check(request, body)
            try:
                return await self._pass_on(request, checked.body)
            except (asyncio.CancelledError, ConnectionResetError):
                self._stop(request, checked)
                raise
        except WrongBodyError as wrong:
            return web.json_response({"error": str(wrong)}, status=400)
        except aiohttp.ClientConnectionError:
            return web.json_response({"error": "the server is not ready"}, status=503)

    async def _check(self, request: web.Request, body: bytes) -> _Checked:
        path = _MODEL_PATH.fullmatch(request.path)
        if path is None or request.method != "POST":
            return _Checked(body)
        if _BINARY in request.headers or "Content-Encoding" in request.headers:
            return _Checked(body)
        content = parse_object(body)
        if path["verb"] == "infer":
            check_infer(content)
            return _Checked(body)
        inputs = await self._inputs_of(path["model"])
        check_generate(content, inputs)
        if _CONNECTION in content or "stop" in content or "stop" not in {i.name for i in inputs}:
            return _Checked(body)
        connection = {_CONNECTION: uuid.uuid4().hex}
        return _Checked(json.dumps(content | connection).encode(), {"stop": True, **connection})

    def _stop(self, request: web.Request, checked: _Checked) -> None:
        """Has the model end what nobody waits for; in a task of its own, for this one ends."""
        if checked.stop is None:
            return

        async def post() -> None:
            path = request.raw_path.removesuffix("_stream")
            async with self._session.post(f"{self._upstream}{path}", json=checked.stop) as answer:
                await answer.read()

        task = asyncio.create_task(post())
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    async def _inputs_of(self, model: str) -> list[ModelInput]:
        """A model's inputs, asked once; none for a model that Triton does not have."""
        if model not in self._inputs:
            async with self._session.get(f"{self._upstream}/v2/models/{model}/config") as answer:
                if answer.status != 200:
                    return []
                config = await answer.json()
            self._inputs[model] = [
                ModelInput(each["name"], each["data_type"].removeprefix("TYPE_"))
                for each in config["input"]
            ]
        return self._inputs[model]

    async def _pass_on(self, request: web.Request, body: bytes) -> web.StreamResponse:
        async with self._session.request(
            request.method,
            f"{self._upstream}{request.raw_path}",
            headers=_end_to_end(request.headers),
            data=body,
        ) as answer:
            response = web.StreamResponse(
                status=answer.status, reason=answer.reason, headers=_end_to_end(answer.headers)
            )
            response.content_length = answer.content_length
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response


def _end_to_end(headers: "aiohttp.typedefs.LooseHeaders") -> dict[str, str]:
    return {
        name: value for name, value in headers.items() if name.lower() not in _OF_THE_CONNECTION
    }


logging.getLogger("aiohttp").setLevel(logging.ERROR)
