"""The local server: who may use it, its page, and everything else signed and passed on.

It listens on loopback, which all users of the machine share; so each request needs the token, but
for the page, which holds nothing of the deployment. A page of another origin has no token and gets
no CORS headers, and a name that an attacker points at 127.0.0.1 is no name of this server.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
from aiohttp import web

from falconry.endpoint.client import DeploymentClient, RequestSigner, RetryBudget
from falconry.endpoint.endpoint import GENERATE_STREAM
from falconry.endpoint.errors import request_error
from falconry.endpoint.events import EVENT_STREAM
from falconry.errors import EndpointError, FalconryError, MachineError, format_error
from falconry.library_errors import explain_exception
from falconry.proxy.access import Access
from falconry.proxy.forwarding import OPENAI, BadPathError, Exchange, returned_headers
from falconry.proxy.page import PAGE, PAGE_HEADERS

HOST = "127.0.0.1"
DESCRIPTION = "/_proxy/deployment"
"""The path with what the page has to know of the deployment."""

# OCI's limit of a request (model-dep-invoke.htm).
_MOST_BYTES = 10 << 20
# Each request occupies a thread; more requests wait.
_MOST_EXCHANGES = 128
_NAMES = frozenset({HOST, "localhost"})
_BAD_GATEWAY, _GATEWAY_TIMEOUT = 502, 504
_REASONS = {413: "OCI takes requests of 10 MB at most"}
_SHUTDOWN_S = 2.0

ResultT = TypeVar("ResultT")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class ProxiedDeployment:
    """The one deployment that a proxy leads to.

    Attributes:
        url: without `/predict`.
        description: what the page has to know of it.
    """

    url: str
    signer: RequestSigner
    description: Mapping[str, Any]


def description_of(deployment: Any) -> dict[str, Any]:
    """Returns what the page has to know of a deployment: its name, and how to ask it."""
    instance = (
        deployment.model_deployment_configuration_details.model_configuration_details
    ).instance_configuration
    return {
        "name": deployment.display_name,
        "shape": instance.instance_shape_name,
        "path": f"/{GENERATE_STREAM}",
    }


class DeploymentProxy:
    """Serves one deployment on loopback.

    Args:
        build: where the token's files are, and the traceback of a bug.
        log: called with a line for each request, without its query and its body.
    """

    def __init__(
        self, deployment: ProxiedDeployment, build: Path, log: Callable[[str], None]
    ) -> None:
        self._deployment = deployment
        self._build = build
        self._log = log
        self._access = Access(build / "proxy")
        # A refusal for now reaches the client, which decides itself when to ask again.
        self._client = DeploymentClient(deployment.signer, RetryBudget(retries=0))
        self._threads = ThreadPoolExecutor(_MOST_EXCHANGES, "exchange")

    def run(self, port: int, ready: Callable[[str, Access], None]) -> None:
        """Serves until SIGINT or SIGTERM.

        Args:
            port: any free one if 0.
            ready: called with the URL and the way in once it is open.

        Raises:
            MachineError: the port cannot be opened.
        """

        async def until_interrupted() -> None:
            ended = asyncio.Event()
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, ended.set)
            await self.serve(port, ready, ended)

        asyncio.run(until_interrupted())

    async def serve(
        self, port: int, ready: Callable[[str, Access], None], ended: asyncio.Event
    ) -> None:
        """Serves until the event is set; see `run`."""
        application = web.Application(client_max_size=_MOST_BYTES, middlewares=[self._guard])
        application.router.add_get("/", self._page)
        application.router.add_get(DESCRIPTION, self._describe)
        application.router.add_route("*", "/{path:.*}", self._forward)
        runner = web.AppRunner(
            application,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            shutdown_timeout=_SHUTDOWN_S,
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, HOST, port)
            try:
                await site.start()
            except OSError as error:
                raise MachineError(
                    f"port {port} cannot be opened ({(error.strerror or str(error)).lower()})",
                    where=HOST,
                    remedy="choose another one: make proxy PORT=<number>",
                ) from None
            port = runner.addresses[0][1]
            self._access = Access(self._build / "proxy" / str(port))
            self._access.write()
            try:
                ready(f"http://{HOST}:{port}", self._access)
                await ended.wait()
            finally:
                self._access.remove()
        finally:
            await runner.cleanup()
            self._threads.shutdown()
            self._client.close()

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Refuses strangers, and turns failures into answers."""
        started = time.monotonic()
        response: web.StreamResponse
        try:
            response = self._refusal(request) or await handler(request)
        except web.HTTPException as error:  # aiohttp's own, such as 413
            response = _error(request, error.status, _REASONS.get(error.status, error.reason))
        except BadPathError as error:
            response = _error(request, 404, format_error(error))
        except httpx.RequestError as error:
            is_late = isinstance(error, httpx.TimeoutException)
            status = _GATEWAY_TIMEOUT if is_late else _BAD_GATEWAY
            text = format_error(request_error(error, self._deployment.url))
            response = _error(request, status, text)
        except FalconryError as error:
            response = _error(request, _BAD_GATEWAY, format_error(error))
        except Exception as error:
            text = format_error(explain_exception(error, self._build))
            response = _error(request, _BAD_GATEWAY, text)
        took = time.monotonic() - started
        self._log(f"{request.method} {request.path} {response.status} {took:.1f} s")
        return response

    def _refusal(self, request: web.Request) -> web.Response | None:
        """The answer to a request that may not pass."""
        name = request.host.rpartition(":")[0] or request.host
        if name not in _NAMES:
            return _error(request, 421, f"this is http://{HOST}, and not {name}")
        if request.path == "/" and request.method == "GET":
            return None
        if self._access.admits(request.headers.get("authorization", "")):
            return None
        said = "this needs the token that make proxy names: Authorization: Bearer <token>"
        response = _error(request, 401, said)
        response.headers["WWW-Authenticate"] = "Bearer"
        return response

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(
            body=PAGE, content_type="text/html", charset="utf-8", headers=PAGE_HEADERS
        )

    async def _describe(self, _: web.Request) -> web.Response:
        files = {
            "token_file": str(self._access.token_file.absolute()),
            "authorization_file": str(self._access.authorization_file.absolute()),
        }
        return web.json_response({**self._deployment.description, **files})

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        """Passes a request on, and its answer back as it comes."""
        body = await request.read()
        exchange = Exchange(
            self._client,
            self._deployment.url.rstrip("/"),
            request.method,
            request.raw_path,
            request.headers.items(),
            body,
        )
        try:
            answer = await self._in_thread(exchange.begin)
            response = web.StreamResponse(status=answer.status_code, reason=answer.reason_phrase)
            response.headers.extend(returned_headers(answer.headers.multi_items()))
            await response.prepare(request)
            await self._pass_on(exchange, request, response)
            return response
        except BaseException:  # cancelled as well, when the client left
            exchange.stop()
            raise
        finally:
            # Not waited for: a client that has its answer may leave, and that cancels this.
            self._threads.submit(exchange.close)

    async def _pass_on(
        self, exchange: Exchange, request: web.Request, response: web.StreamResponse
    ) -> None:
        """Writes an answer's body; if it breaks off, its reader sees that too."""
        try:
            while chunk := await self._in_thread(exchange.next_chunk):
                await response.write(chunk)
            await response.write_eof()
        except ConnectionError:  # the client left
            exchange.stop()
        except (httpx.RequestError, EndpointError) as error:
            if isinstance(error, httpx.RequestError):
                error = request_error(error, exchange.url)
            with suppress(ConnectionError):
                # Common clients do not read the trailer that reports a failure.
                if response.headers.get("content-type", "").startswith(EVENT_STREAM):
                    event = json.dumps(_error_body(request, _BAD_GATEWAY, format_error(error)))
                    await response.write(f"data: {event}\n\n".encode())
            if request.transport is not None:
                request.transport.close()
            self._log(f"{request.method} {request.path} broke off: {format_error(error)}")

    async def _in_thread(self, work: Callable[[], ResultT]) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _error(request: web.Request, status: int, text: str) -> web.Response:
    return web.json_response(_error_body(request, status, text), status=status)


def _error_body(request: web.Request, status: int, text: str) -> dict[str, Any]:
    """An error in the form that the client of a path reads: OpenAI's or Triton's."""
    if request.path.startswith(OPENAI):
        return {"error": {"message": text, "type": "proxy_error", "code": status, "param": None}}
    return {"error": text}
