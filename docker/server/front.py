"""The server's front: one port, Triton behind it, and wrong requests refused with 400.

Bodies of `generate`, `generate_stream` and `infer` are looked at; everything passes through as it
comes, in both directions and chunk by chunk.
"""

import asyncio
import logging
import re
import signal
from collections.abc import AsyncIterator

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
# With this header the body is JSON followed by raw tensors (KServe's binary data extension).
_BINARY = "Inference-Header-Content-Length"


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
            await self._check(request, body)
            return await self._pass_on(request, body)
        except WrongBodyError as wrong:
            return web.json_response({"error": str(wrong)}, status=400)
        except aiohttp.ClientConnectionError:
            return web.json_response({"error": "the server is not ready"}, status=503)

    async def _check(self, request: web.Request, body: bytes) -> None:
        path = _MODEL_PATH.fullmatch(request.path)
        if path is None or request.method != "POST":
            return
        if _BINARY in request.headers or "Content-Encoding" in request.headers:
            return
        content = parse_object(body)
        if path["verb"] == "infer":
            check_infer(content)
        else:
            check_generate(content, await self._inputs_of(path["model"]))

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
