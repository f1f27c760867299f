"""HTTP/1.1 connections that keep trailers, as a transport for httpx.

OCI reports that a stream failed in the HTTP trailer `StreamFailure`, after a status of 200.
http.client, urllib3 (2.8), httpcore (1.0) and aiohttp (3.14) read trailers and drop them; h11,
which httpcore is made of, returns them. So this is httpcore's network backend with h11 on it.
"""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote, urlsplit

import certifi
import h11
import httpcore
import httpx
from typing_extensions import override

from falconry.errors import MachineError

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_READ = 1 << 16
_CLOSED = "the server closed the connection"
# The most of a response's head or trailer; as in httpcore.
_HEAD_BYTES = 100 * 1024
_IDLE_CONNECTIONS = 16

Trailers = Callable[[httpx.URL, httpx.Headers], None]
_Origin = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy; `authorization` is its header, if its URL names a user."""

    host: str
    port: int
    authorization: tuple[tuple[str, str], ...]


def proxy_for(host: str) -> Proxy | None:
    """The proxy for HTTPS requests to a host (`HTTPS_PROXY`, `NO_PROXY`), if any.

    Raises:
        MachineError: the variable names no HTTP proxy.
    """
    if host in _LOOPBACK or urllib.request.proxy_bypass(host):
        return None
    named = urllib.request.getproxies().get("https")
    if not named:
        return None
    try:
        url = urlsplit(named if "://" in named else f"http://{named}")
        port = url.port or 80
    except ValueError as error:
        raise _unusable_proxy(f"is not the URL of a proxy ({error})") from None
    if url.scheme != "http":
        raise _unusable_proxy(f"names a proxy for '{url.scheme}', and only HTTP proxies are used")
    if not url.hostname:
        return None
    return Proxy(url.hostname, port, _authorization(url.username, url.password))


def _unusable_proxy(problem: str) -> MachineError:
    remedy = "name a proxy such as http://proxy.example:3128, or leave it out"
    return MachineError(problem, where="HTTPS_PROXY", remedy=remedy)


def _authorization(user: str | None, password: str | None) -> tuple[tuple[str, str], ...]:
    if not user:
        return ()
    words = f"{unquote(user)}:{unquote(password or '')}".encode()
    return (("proxy-authorization", f"Basic {base64.b64encode(words).decode()}"),)


ON_CONNECTION = "on_connection"
"""The extension of a request whose value is called with its connection's `abort`.

Another thread may call `abort`, before the request is sent or later: the exchange then fails at
once, with httpx's own error.
"""


class TrailerTransport(httpx.BaseTransport):
    """Sends requests; reports a chunked answer's trailer before its body ends.

    Args:
        on_trailers: called with the URL and the trailers, if there are any; its exceptions reach
            the reader of the body.
    """

    def __init__(self, on_trailers: Trailers) -> None:
        self._on_trailers = on_trailers
        self._backend = httpcore.SyncBackend()
        self._idle: dict[_Origin, list[_Connection]] = {}
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None

    @override
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Sends a request and reads the head of its answer."""
        timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
        with _translate_network_errors(request):
            connection = self._connection(request.url, timeouts)
            if on_connection := request.extensions.get(ON_CONNECTION):
                on_connection(connection.abort)
            try:
                connection.send(request, timeouts.get("write"))
                head = connection.head(timeouts.get("read"))
            except BaseException:
                connection.close()
                raise
        body = _Body(connection, request, timeouts.get("read"), self._on_trailers, self._keep)
        return httpx.Response(
            head.status_code,
            headers=head.headers.raw_items(),
            stream=body,
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": head.reason},
        )

    @override
    def close(self) -> None:
        """Closes idle connections."""
        with self._lock:
            connections = [each for idle in self._idle.values() for each in idle]
            self._idle.clear()
        for connection in connections:
            connection.close()

    def _connection(self, url: httpx.URL, timeouts: dict[str, float | None]) -> _Connection:
        origin = url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)
        while connection := self._take(origin):
            if connection.usable():
                return connection
            connection.close()
        return _Connection(origin, self._opened(origin, timeouts.get("connect")))

    def _take(self, origin: _Origin) -> _Connection | None:
        with self._lock:
            idle = self._idle.get(origin)
            return idle.pop() if idle else None

    def _keep(self, connection: _Connection) -> None:
        with self._lock:
            idle = self._idle.setdefault(connection.origin, [])
            if len(idle) < _IDLE_CONNECTIONS:
                idle.append(connection)
                return
        connection.close()

    def _opened(self, origin: _Origin, timeout: float | None) -> httpcore.NetworkStream:
        scheme, host, port = origin
        tls = self._context() if scheme == "https" else None
        proxy = proxy_for(host) if tls else None
        stream = self._backend.connect_tcp(
            proxy.host if proxy else host, proxy.port if proxy else port, timeout
        )
        try:
            if proxy:
                _tunnel(stream, proxy, f"{host}:{port}", timeout)
            if tls:
                stream = stream.start_tls(tls, host, timeout)
        except BaseException:
            stream.close()
            raise
        return stream

    def _context(self) -> ssl.SSLContext:
        """TLS with the authorities of requests' or OpenSSL's variables, or else certifi's."""
        if self._tls is None:
            variables = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
            name = next((each for each in variables if os.environ.get(each)), "certifi")
            path = os.environ.get(name) or certifi.where()
            file, directory = (None, path) if Path(path).is_dir() else (path, None)
            try:
                self._tls = ssl.create_default_context(cafile=file, capath=directory)
            except OSError as error:
                raise MachineError(
                    f"names {path}, which cannot be used ({error.strerror or error})",
                    where=name,
                    remedy="name a file of certificates in PEM form, or leave it out",
                ) from None
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls


class _Connection:
    """One connection, used for one exchange after another."""

    def __init__(self, origin: _Origin, stream: httpcore.NetworkStream) -> None:
        self.origin = origin
        self._stream = stream
        self._protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES)

    def usable(self) -> bool:
        """Whether the server has neither closed it nor sent anything unexpected."""
        return not self._stream.get_extra_info("is_readable")

    def send(self, request: httpx.Request, timeout: float | None) -> None:
        """Sends a request.

        A server that refuses a body may stop reading it; then its answer is ready to be read.
        """
        self._write(
            h11.Request(
                method=request.method, target=request.url.raw_path, headers=request.headers.raw
            ),
            timeout,
        )
        with contextlib.suppress(httpcore.WriteError):
            for part in request.stream:  # type: ignore[union-attr]
                self._write(h11.Data(data=part), timeout)
            self._write(h11.EndOfMessage(), timeout)

    def head(self, timeout: float | None) -> h11.Response:
        """The head of the answer, after any 1xx."""
        while True:
            event = self.event(timeout)
            if isinstance(event, h11.Response):
                return event

    def event(self, timeout: float | None) -> h11.Event:
        """What comes next."""
        while True:
            event = self._protocol.next_event()
            if event is h11.NEED_DATA:
                self._take(self._stream.read(_READ, timeout))
            elif isinstance(event, h11.Event) and not isinstance(event, h11.ConnectionClosed):
                return event
            else:
                raise h11.RemoteProtocolError(_CLOSED)

    def reusable(self) -> bool:
        """Whether the exchange is over; prepares the connection for another."""
        if self._protocol.our_state is self._protocol.their_state is h11.DONE:
            self._protocol.start_next_cycle()
            return True
        return False

    def abort(self) -> None:
        """Ends it while another thread uses it, which then fails."""
        # Closing the socket would leave a thread that waits for bytes waiting.
        with contextlib.suppress(OSError):
            self._stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Ends it."""
        self._stream.close()

    def _take(self, data: bytes) -> None:
        """Passes on what was read; refuses an early end of the connection."""
        if not data and self._protocol.their_state is h11.SEND_RESPONSE:
            raise h11.RemoteProtocolError(_CLOSED)
        self._protocol.receive_data(data)

    def _write(self, event: h11.Event, timeout: float | None) -> None:
        if data := self._protocol.send(event):
            self._stream.write(data, timeout)


class _Body(httpx.SyncByteStream):
    """The body of an answer as it arrives, without a copy."""

    def __init__(
        self,
        connection: _Connection,
        request: httpx.Request,
        timeout: float | None,
        on_trailers: Trailers,
        keep: Callable[[_Connection], None],
    ) -> None:
        self._connection = connection
        self._request = request
        self._timeout = timeout
        self._on_trailers = on_trailers
        self._keep = keep
        self._closed = False

    @override
    def __iter__(self) -> Iterator[bytes]:
        with _translate_network_errors(self._request):
            while True:
                event = self._connection.event(self._timeout)
                if isinstance(event, h11.Data):
                    yield bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    break
        if event.headers:
            self._on_trailers(self._request.url, httpx.Headers(list(event.headers)))

    @override
    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._connection.reusable():
            self._keep(self._connection)
        else:
            self._connection.close()


def _tunnel(
    stream: httpcore.NetworkStream, proxy: Proxy, target: str, timeout: float | None
) -> None:
    """Makes a proxy connect the stream to a host and port."""
    protocol = h11.Connection(h11.CLIENT)
    request = h11.Request(
        method="CONNECT", target=target, headers=[("host", target), *proxy.authorization]
    )
    stream.write((protocol.send(request) or b"") + (protocol.send(h11.EndOfMessage()) or b""))
    while True:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            protocol.receive_data(stream.read(_READ, timeout))
        elif isinstance(event, h11.Response):
            if event.status_code // 100 != 2:
                raise httpcore.ProxyError(f"the proxy answers {event.status_code}")
            return
        elif isinstance(event, h11.ConnectionClosed):
            raise httpcore.ProxyError("the proxy closed the connection")


@contextlib.contextmanager
def _translate_network_errors(request: httpx.Request) -> Iterator[None]:
    """Turns the lower layers' errors into httpx's of the same name."""
    try:
        yield
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProxyError) as error:
        _raise_as(type(error).__name__, error, request)
    except h11.RemoteProtocolError as error:
        _raise_as("RemoteProtocolError", error, request)
    except h11.LocalProtocolError as error:
        _raise_as("LocalProtocolError", error, request)


def _raise_as(name: str, error: Exception, request: httpx.Request) -> NoReturn:
    kind: type[httpx.TransportError] = getattr(httpx, name)
    raise kind(str(error), request=request) from error
