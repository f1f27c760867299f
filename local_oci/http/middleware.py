"""ASGI middleware for every request: ids, authentication; and the guard of `/_local/`."""

from __future__ import annotations

import hmac
import ipaddress
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import wraps
from urllib.parse import unquote_to_bytes, urlsplit

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local_oci.http.errors import (
    ServiceError,
    invalid_parameter,
    length_required,
    not_authenticated,
    not_found,
    payload_too_large,
)
from local_oci.http.messages import error_response, natural_number
from local_oci.http.signatures import SignedRequest, check_body, verify
from local_oci.identity import Identity
from local_oci.limits import MAX_PAYLOAD_BYTES
from local_oci.storage.records import new_request_id, now

LOCAL_PREFIX = "/_local/"

_HEX_DIGITS = frozenset(b"0123456789abcdefABCDEF")
_METHODS_WITH_SIGNED_BODY = frozenset({"POST", "PUT", "PATCH"})
_log = logging.getLogger("local_oci.requests")
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class UnsignedBody:
    """An operation whose body the SDK streams, so that no signature covers it."""

    method: str
    path: re.Pattern[str]


class RequestIds:
    """Give every response an `opc-request-id`, the client's own where it sent one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, see the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        request_id = headers.get("opc-request-id") or new_request_id()
        scope["opc_request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = [pair for pair in message["headers"] if pair[0] != b"opc-request-id"]
                message["headers"] = [*given, (b"opc-request-id", request_id.encode("latin-1"))]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            _log.info("%s %s: the client went away", scope["method"], scope["path"])


class Authentication:
    """Let through what the one user signed.

    Args:
        app: what comes next.
        identity: the one user.
        unsigned_bodies: operations whose bodies no signature covers.
        self_authenticating: paths that ask for more than signatures, and do so themselves, as the
            `/_local/` routes do.
    """

    def __init__(
        self,
        app: ASGIApp,
        identity: Identity,
        unsigned_bodies: Sequence[UnsignedBody],
        self_authenticating: Set[str],
    ) -> None:
        self._app = app
        self._identity = identity
        self._unsigned_bodies = unsigned_bodies
        self._self_authenticating = self_authenticating

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, see the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            check_target(scope)
            if not self._is_upload(scope):
                receive = _Limited(receive)
            if not self._lets_through(scope["path"]):
                receive = await self._authenticated(scope, receive)
        except ServiceError as error:
            log_refusal(scope, error)
            await error_response(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _lets_through(self, path: str) -> bool:
        return path.startswith(LOCAL_PREFIX) or path in self._self_authenticating

    async def _authenticated(self, scope: Scope, receive: Receive) -> Receive:
        request = signed_request(scope, body_is_signed=self._body_is_signed(scope))
        if request.body_is_signed and "content-length" not in request.headers:
            raise length_required()
        verify(request, self._identity, now())
        if not request.body_is_signed:
            return receive
        body = await _read_body(request.headers, receive)
        check_body(body, request.headers)
        return _Replay(body, receive)

    def _body_is_signed(self, scope: Scope) -> bool:
        if scope["method"] not in _METHODS_WITH_SIGNED_BODY:
            return False
        return not self._is_upload(scope)

    def _is_upload(self, scope: Scope) -> bool:
        """Whether the SDK streams the body, which then goes to a file and has no limit here."""
        return any(
            scope["method"] == unsigned.method and unsigned.path.fullmatch(scope["path"])
            for unsigned in self._unsigned_bodies
        )


def check_target(scope: Scope) -> None:
    """Refuse a request target that is no path, or whose escapes are not UTF-8.

    Raises:
        ServiceError: 400 InvalidParameter.
    """
    path: bytes = scope["raw_path"]
    if not path.startswith(b"/"):
        raise invalid_parameter("The request target is not a path that begins with '/'.")
    for part in (path, scope["query_string"]):
        _, *escapes = part.split(b"%")
        if not all(len(escape) >= 2 and set(escape[:2]) <= _HEX_DIGITS for escape in escapes):
            raise invalid_parameter("The request target has a '%' without two digits after it.")
        try:
            unquote_to_bytes(part).decode()
        except UnicodeDecodeError as error:
            raise invalid_parameter("The request target is not UTF-8.") from error


def signed_request(scope: Scope, *, body_is_signed: bool) -> SignedRequest:
    """The parts of a request that a signature covers."""
    return SignedRequest(scope["method"], _target(scope), _headers(scope), body_is_signed)


def log_refusal(scope: Scope, error: ServiceError) -> None:
    """One line in the server's log for a refused request."""
    _log.info(
        "%s %s: %d %s: %s", scope["method"], scope["path"], error.status, error.code, error.message
    )


class _Limited:
    """An ASGI `receive` that refuses more than a body may have, whatever its headers say."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._left = MAX_PAYLOAD_BYTES

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise payload_too_large()
        return message


class _Replay:
    """An ASGI `receive` that gives a body that was read already, then what the client does."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


async def _read_body(headers: Mapping[str, str], receive: Receive) -> bytes:
    length = natural_number(headers["content-length"])
    if length is None or length > MAX_PAYLOAD_BYTES:
        raise payload_too_large()
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


def _headers(scope: Scope) -> dict[str, str]:
    return {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
    }


def _target(scope: Scope) -> str:
    query = scope["query_string"]
    path: str = scope["raw_path"].decode("latin-1")
    return f"{path}?{query.decode('latin-1')}" if query else path


def this_machine_only(handler: Handler) -> Handler:
    """Refuse callers from other machines, and web pages, as if there were nothing.

    A page in a browser of this machine can reach the port as well. It cannot hide its Origin, and
    a host name of its own that it points to this machine shows in Host.
    """

    @wraps(handler)
    async def guarded(request: Request) -> Response:
        client = request.client
        from_here = client is not None and ipaddress.ip_address(client.host).is_loopback
        by_name = _is_this_machine(request.headers.get("host", ""))
        if not from_here or not by_name or "origin" in request.headers:
            raise not_found()
        return await handler(request)

    return guarded


def local_only(handler: Handler) -> Handler:
    """Refuse callers as `this_machine_only` does, and those without the directory's local token."""

    @this_machine_only
    @wraps(handler)
    async def guarded(request: Request) -> Response:
        token: str = request.app.state.local_token
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), token.encode()):
            raise not_authenticated("Authorization must be 'Bearer <text of local-token>'")
        return await handler(request)

    return guarded


def _is_this_machine(host: str) -> bool:
    """Whether a Host header names this machine, by an address or as localhost."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name == "localhost":
            return True
        address = ipaddress.ip_address(name)
        return address.is_loopback or address.is_unspecified  # the latter with --host 0.0.0.0
    except ValueError:
        return False
