"""The client of Triton's HTTP API on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from parts import Parts
from yarl import URL

# OCI's gateway ends a request at 60 s; longer ones come from clients inside the network, and it is
# theirs to give up.
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10)
_HEALTH_TIMEOUT_S = 2.0
_FIRST_ERROR = 400
_EVENT_END = b"\n\n"
_EVENT_DATA = b"data:"


class TritonError(Exception):
    """Triton has refused or failed a request; the message is its own.

    Attributes:
        status: HTTP's; 503 where Triton cannot be reached, 500 for an error within a stream.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class TritonClient:
    """The client of one Triton server.

    Args:
        url: of its HTTP API.
        metrics_url: of its metrics, if it has any.
        parts: its processes.
    """

    def __init__(self, url: str, metrics_url: str, parts: Parts) -> None:
        self._url = url
        self._metrics_url = metrics_url
        self._parts = parts
        self._session: aiohttp.ClientSession
        self._open_answers: set[aiohttp.ClientResponse] = set()

    async def open(self) -> None:
        """Opens the HTTP session; call it before any request."""
        # Nothing is compressed: the front looks into answers. No connection is kept: a stopping
        # Triton 2.51 waits its full exit timeout, 30 s, for an open one.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            headers={"Accept-Encoding": "identity"},
            timeout=_NO_TIMEOUT,
        )

    async def close(self) -> None:
        """Ends all connections."""
        await self._session.close()

    async def abort(self) -> None:
        """Aborts the requests under way, which then fail."""
        for answer in list(self._open_answers):
            answer.close()
        await self._session.close()

    @asynccontextmanager
    async def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Sends a request; gives the answer, whose body has not been read.

        Raises:
            aiohttp.ClientError: Triton cannot be reached, or an error is Triton's own.
        """
        # As it is: a path that was checked must not become another one on its way.
        url = URL(f"{self._url}{path}", encoded=True)
        sent = self._session.request(method, url, headers=headers, data=body)
        async with sent as answer:
            if answer.status >= _FIRST_ERROR:
                await self.require_sound()
            self._open_answers.add(answer)
            try:
                yield answer
            finally:
                self._open_answers.discard(answer)

    async def require_sound(self) -> None:
        """Returns if an error that Triton answered with can be the request's.

        While a process of it has ended, or it stops and has unloaded models, Triton reports that
        as if the request were wrong.

        Raises:
            aiohttp.ClientError: the error is Triton's own.
        """
        if name := self._parts.ended():
            raise aiohttp.ClientConnectionError(f"{name} has ended")
        try:
            is_live = await self._health("live") < _FIRST_ERROR
        except TimeoutError:
            is_live = False
        if not is_live:
            raise aiohttp.ClientConnectionError("Triton is stopping")

    async def listens(self) -> bool:
        """Whether Triton takes connections: its models are loaded, it is not stopping.

        Raises:
            TimeoutError: it takes them, and does not answer.
        """
        try:
            await self._health("live")
            return True
        except aiohttp.ClientConnectorError:
            return False
        except aiohttp.ClientError:
            return True

    async def ready(self) -> bool:
        """Whether Triton says that it and all its models are ready."""
        try:
            return await self._health("ready") == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _health(self, which: str) -> int:
        """The status of one of Triton's health paths."""
        url = f"{self._url}/v2/health/{which}"
        async with asyncio.timeout(_HEALTH_TIMEOUT_S), self._session.get(url) as answer:
            return answer.status

    async def object(self, path: str) -> dict[str, Any] | None:
        """The JSON object that Triton has at a path, if any.

        Raises:
            aiohttp.ClientError: Triton cannot be reached.
        """
        async with self.request("GET", path) as answer:
            content = await answer.read()
        try:
            value = json.loads(content) if answer.status == 200 else None
        except ValueError:
            return None
        return value if isinstance(value, dict) else None

    async def metrics(self) -> bytes:
        """Triton's metrics as text; nothing where it has none."""
        try:
            async with self._session.get(self._metrics_url) as answer:
                return await answer.read() if answer.status == 200 else b""
        except aiohttp.ClientError:
            return b""

    async def generate(self, model: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Sends a request to a model and returns its one response.

        Args:
            model: its name, or `NAME/versions/NUMBER`.
            body: its inputs by name.

        Raises:
            TritonError: the request is refused or fails.
        """
        with _failures():
            path = f"/v2/models/{model}/generate"
            async with self.request("POST", path, body=json.dumps(body).encode()) as answer:
                content = await answer.read()
                if answer.status != 200:
                    raise TritonError(answer.status, _reason(content))
                response: dict[str, Any] = json.loads(content)
                if "error" in response:  # the status is that of the first of several responses
                    await self.require_sound()
                    raise TritonError(400, _reason(content))
                return response

    async def stream(
        self, model: str, body: Mapping[str, Any]
    ) -> AsyncGenerator[list[dict[str, Any]], None]:
        """Sends a request to a model; yields lists of responses that arrived together.

        Closing the generator closes the connection, on which Triton cancels the request.

        Raises:
            TritonError: the request is refused or fails.
        """
        with _failures():
            path = f"/v2/models/{model}/generate_stream"
            async with self.request("POST", path, body=json.dumps(body).encode()) as answer:
                if answer.status != 200:
                    raise TritonError(answer.status, _reason(await answer.read()))
                received = b""
                async for part in answer.content.iter_any():
                    *events, received = (received + part).split(_EVENT_END)
                    responses = [json.loads(each.removeprefix(_EVENT_DATA)) for each in events]
                    good = [each for each in responses if "error" not in each]
                    if good:
                        yield good
                    if len(good) < len(responses):  # an error ends a stream
                        await self.require_sound()
                        raise TritonError(500, str(responses[-1]["error"]))


class _failures:  # noqa: N801  used as a statement
    """Turns what the HTTP client raises into a TritonError."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, aiohttp.ClientConnectorError):
            raise TritonError(503, "the server is not ready") from error
        if isinstance(error, aiohttp.ClientError):
            raise TritonError(503, "the server has broken off") from error


def _reason(content: bytes) -> str:
    """The error in an answer's body, JSON or an event."""
    text = content.strip().removeprefix(_EVENT_DATA)
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text.decode("utf-8", errors="replace") or "the server gave no reason"
