"""The server's front: Triton's API, OpenAI's API, health and metrics on one port.

Why not NVIDIA's OpenAI frontend (triton-inference-server/server, python/openai, read in copies of
2025; documentation of 25.10): it replaces tritonserver, with the server in its own process by
the bindings of the `tritonserver` wheel. nvidia-pytriton has no such bindings, so the CPU image
could not have it, and several ranks under mpirun are not foreseen (inferred). It needs FastAPI and
transformers beside them. From models other than vLLM's it requests the text alone: no usage, a
`finish_reason` that is always "stop", one prompt a request. It has no limits for a queue, no
readiness after a first answer and none of our metrics. The translation itself is small, so it is
in openai_api.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable

from admission import Admission
from aiohttp import web
from compression import encode_answers
from connections import Connections
from errors import not_ready
from front_model import FrontModel
from health import Health
from metrics import Metrics
from openai_api.routes import OpenAiApi
from parts import Parts
from proxy import TritonProxy
from request_bodies import RequestBodies, answer_expectation
from request_log import RequestLog, add_request_id
from settings import FrontSettings
from triton_client import TritonClient
from typing_extensions import override

_PROMETHEUS_TEXT = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
# Streams that are broken off have this long to send their error event.
_LAST_EVENT_S = 1.0
# How long the rest of a refused body is read, so that the client gets to see why.
_LINGERING_S = 3.0
# Files and sockets of the process itself; each connection may need a further one, to Triton.
_OWN_FILES = 64
_BACKLOG = 1024


def serve(address: str, port: int, upstream: str, metrics: str, beats: int | None = None) -> None:
    """Serves until SIGTERM, or until Triton stops.

    Args:
        address: where to listen.
        port: the port that the container's contract names.
        upstream: Triton's own URL.
        metrics: the URL of its metrics, if it has any.
        beats: where to write that this process is well, for the supervisor, its parent; None
            without one.

    Raises:
        BrokenServerError: the server will not answer again.
        InvalidSettingError: an environment variable cannot be used.
        OSError: the port is taken.
    """
    # Triton has the standard error to itself: it writes a line and its end separately, and what
    # another process writes may come between them.
    logging.basicConfig(
        stream=sys.stdout, level=logging.INFO, format="%(asctime)s front: %(message)s"
    )
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
    settings = FrontSettings.from_environment(os.environ)
    parts = Parts(None if beats is None else os.getppid())
    triton = TritonClient(upstream, metrics, parts)

    def beat() -> None:
        if beats is not None:
            os.write(beats, b".")

    asyncio.run(Front(settings, triton, parts, beat).serve(address, port))


class Front:
    """All of the front.

    Args:
        settings: how to serve.
        triton: what is behind it.
        parts: Triton's processes.
        beat: called regularly while it serves.
    """

    def __init__(
        self,
        settings: FrontSettings,
        triton: TritonClient,
        parts: Parts,
        beat: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._triton = triton
        self._admission = Admission(
            settings.max_in_flight, settings.max_queued, settings.queue_timeout_s
        )
        self._connections = Connections(
            min(settings.max_connections, _most_connections()), settings.header_timeout_s
        )
        self._bodies = RequestBodies(settings, self._admission, self._connections)
        self._metrics = Metrics(self._admission)
        self._model = FrontModel(triton)
        self._health = Health(
            triton, self._model, parts, settings.probe_period_s, settings.probe_timeout_s, beat
        )
        self._proxy = TritonProxy(triton, self._model, self._admission, self._bodies)

    async def serve(self, address: str, port: int) -> None:
        """Serves until SIGTERM, or until Triton stops; then lets the running answers end.

        Raises:
            BrokenServerError: the server will not answer again.
        """
        runner = web.AppRunner(
            self._application(),
            handler_cancellation=True,
            auto_decompress=False,  # request_bodies does, within its limits
            access_log=None,
            shutdown_timeout=_LAST_EVENT_S,
            lingering_time=_LINGERING_S,
        )
        await runner.setup()
        loop = asyncio.get_running_loop()
        assert runner.server
        listening = await loop.create_server(
            self._connections.wrap(runner.server), address, port, backlog=_BACKLOG
        )
        loop.add_signal_handler(signal.SIGTERM, self._health.stopped.set)
        await self._health.stopped.wait()
        await self._admission.close(0 if self._health.broken else self._settings.drain_s)
        await self._triton.abort()
        listening.close()
        await runner.cleanup()
        if self._health.broken:
            raise self._health.broken

    def _application(self) -> web.Application:
        application = web.Application(
            router=_Router(),
            middlewares=[
                encode_answers,
                self._bodies.count,
                RequestLog(self._metrics).log_request,
            ],
        )
        application.on_response_prepare.append(add_request_id)
        application.cleanup_ctx.append(self._background)
        openai = OpenAiApi(
            self._settings,
            self._model,
            self._admission,
            self._metrics,
            self._bodies,
            int(time.time()),
        )
        routes = [
            web.get("/v2/health/ready", self._ready),
            # Where the probes of other servers ask: vLLM's, Dynamo's and SageMaker's.
            *(web.get(path, self._ready) for path in ("/health", "/health/ready", "/ping")),
            web.get("/version", self._show_version),
            web.get("/v2/models/{path:.+}/ready", self._model_ready),
            web.get("/metrics", self._show_metrics),
            *openai.routes,
            web.route("*", "/{path:.*}", self._proxy.handle),
        ]
        application.add_routes(
            web.RouteDef(
                each.method,
                each.path,
                each.handler,
                {**each.kwargs, "expect_handler": answer_expectation},
            )
            for each in routes
        )
        return application

    async def _background(self, application: web.Application) -> AsyncIterator[None]:
        await self._triton.open()
        watching = asyncio.create_task(self._health.watch())
        yield
        watching.cancel()
        await self._triton.close()

    async def _ready(self, request: web.Request) -> web.StreamResponse:
        if self._health.error:
            raise self._health.error
        if not await self._triton.ready():
            raise not_ready("the server is not ready: Triton says that it or a model is not")
        return web.Response(content_type="text/plain")  # as Triton's own

    async def _model_ready(self, request: web.Request) -> web.StreamResponse:
        if self._health.error:
            raise self._health.error
        return await self._proxy.handle(request)

    async def _show_version(self, request: web.Request) -> web.StreamResponse:
        """Shows Triton's version, in vLLM's form."""
        server = await self._triton.object("/v2")
        if server is None:
            raise not_ready()
        return web.json_response({"version": server["version"]})

    async def _show_metrics(self, request: web.Request) -> web.StreamResponse:
        text = await self._triton.metrics() + self._metrics.text()
        return web.Response(body=text, headers=_PROMETHEUS_TEXT)


class _Router(web.UrlDispatcher):
    """aiohttp's router, whose last route takes targets without a path as well.

    `CONNECT here:80` and `OPTIONS *` match no route of aiohttp 3.14, which then answers their
    expectations itself (see `answer_expectation`). It takes a router until 4.0.
    """

    @override
    async def resolve(self, request: web.Request) -> web.UrlMappingMatchInfo:
        found = await super().resolve(request)
        if found.http_exception:
            return web.UrlMappingMatchInfo({}, list(self.routes())[-1])
        return found


def _most_connections() -> int:
    """How many connections the process may have, once it may open as many files as it can."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return sys.maxsize if most == resource.RLIM_INFINITY else max(1, (most - _OWN_FILES) // 2)
