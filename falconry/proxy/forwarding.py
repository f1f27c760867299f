"""One request of a local client: where it goes, and its exchange with the deployment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import unquote

import httpx

from falconry.endpoint.client import DeploymentClient
from falconry.endpoint.endpoint import PREDICT, STREAM
from falconry.endpoint.errors import json_object
from falconry.endpoint.transport import ON_CONNECTION
from falconry.errors import EndpointError

Header = tuple[str, str]

OPENAI = "/v1/"
_STREAMING_ROUTE = "generate_stream"
# RFC 9110, section 7.6.1, and what belongs to the exchange of each side alone.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# The signature has these itself; what a browser adds about its user is not the deployment's.
_NOT_SENT = _HOP_BY_HOP | {
    "accept-encoding",
    "accept-language",
    "authorization",
    "content-length",
    "cookie",
    "date",
    "dnt",
    "expect",
    "host",
    "origin",
    "referer",
    "x-content-sha256",
}
_NOT_RETURNED = _HOP_BY_HOP | {"set-cookie"}
_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"


class BadPathError(EndpointError):
    """A path that could lead out of the deployment."""


def upstream_path(target: str, body: bytes) -> str:
    """Returns where a request goes below the deployment's URL.

    `/predict` and `/predictWithResponseStream` are the deployment's own and stay as they are. Any
    other path is a custom endpoint; requests for a stream go to the route for streams.

    Args:
        target: path and query as the client sent them.
        body: the request's.

    Raises:
        BadPathError: the path has empty parts, or parts such as `..`.
    """
    path, mark, query = target.partition("?")
    parts = path.removeprefix("/").split("/")
    if not path.startswith("/") or not all(map(_is_name, parts)):
        raise BadPathError("is not a path of a deployment", where=path)
    if parts[0] not in (PREDICT, STREAM):
        path = f"/{STREAM if _asks_for_stream(path, body) else PREDICT}{path}"
    return f"{path}{mark}{query}"


def _is_name(part: str) -> bool:
    plain = unquote(part)
    return plain not in ("", ".", "..") and plain.isprintable() and not {"/", "\\"} & set(plain)


def _asks_for_stream(path: str, body: bytes) -> bool:
    if path.endswith(f"/{_STREAMING_ROUTE}"):
        return True
    requested = json_object(body) if path.startswith(OPENAI) else None
    return requested is not None and requested.get("stream") is True


def sent_headers(headers: Iterable[Header]) -> list[Header]:
    """Returns a client's headers that the deployment receives.

    curl calls each body a form by default, and no route of a deployment takes a form.
    """
    kept = []
    for name, value in headers:
        lower = name.lower()
        if lower in _NOT_SENT or lower.startswith("sec-"):
            continue
        is_form = lower == "content-type" and value.partition(";")[0].strip().lower() == _FORM
        kept.append((name, _JSON if is_form else value))
    return kept


def returned_headers(headers: Iterable[Header]) -> list[Header]:
    """Returns an answer's headers that the client receives."""
    return [(name, value) for name, value in headers if name.lower() not in _NOT_RETURNED]


class Exchange:
    """A request to the deployment and its answer, in a thread that another one may stop."""

    def __init__(
        self,
        client: DeploymentClient,
        url: str,
        method: str,
        target: str,
        headers: Iterable[Header],
        body: bytes,
    ) -> None:
        self._client = client
        self._request = client.build_request(
            method,
            f"{url}{upstream_path(target, body)}",
            headers=sent_headers(headers),
            content=body or None,
            extensions={ON_CONNECTION: self._connected},
        )
        if not str(self._request.url).startswith(f"{url}/"):
            raise BadPathError("is not a path of a deployment", where=target)
        self._in_use = threading.Lock()  # by the thread that works on it
        self._lock = threading.Lock()
        self._stopped = False
        self._abort: Callable[[], None] | None = None
        self._response: httpx.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    @property
    def url(self) -> str:
        """Where the request goes."""
        return str(self._request.url)

    def begin(self) -> httpx.Response:
        """Sends the request and returns the answer, whose body is not read."""
        with self._in_use:
            self._response = self._client.send(self._request, stream=True)
            self._chunks = self._response.iter_raw()
            return self._response

    def next_chunk(self) -> bytes | None:
        """Returns the next bytes of the answer's body as they arrive; None at its end."""
        with self._in_use:
            return next(self._chunks, None)

    def close(self) -> None:
        """Ends the exchange; an answer that is read to its end leaves its connection open."""
        with self._in_use:
            if self._response is not None:
                self._response.close()

    def stop(self) -> None:
        """Ends the exchange from another thread: the deployment sees its client leave."""
        with self._lock:
            self._stopped = True
            if self._abort:
                self._abort()

    def _connected(self, abort: Callable[[], None]) -> None:
        with self._lock:
            self._abort = abort
            if self._stopped:
                abort()
