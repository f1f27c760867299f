"""The proxy that this machine's environment names for a host, as Python's own clients read it."""

from __future__ import annotations

import base64
import urllib.request
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy; `authorization` is the header that it asks for, if its URL names a user."""

    host: str
    port: int
    authorization: tuple[tuple[str, str], ...]


def proxy_for(host: str) -> Proxy | None:
    """The proxy for HTTPS requests to a host (`HTTPS_PROXY`, `NO_PROXY`); None for none."""
    if host in _LOOPBACK or urllib.request.proxy_bypass(host):
        return None
    named = urllib.request.getproxies().get("https")
    if not named:
        return None
    url = urlsplit(named if "://" in named else f"http://{named}")
    if not url.hostname:
        return None
    return Proxy(url.hostname, url.port or 80, _authorization(url.username, url.password))


def _authorization(user: str | None, password: str | None) -> tuple[tuple[str, str], ...]:
    if not user:
        return ()
    words = f"{unquote(user)}:{unquote(password or '')}".encode()
    return (("proxy-authorization", f"Basic {base64.b64encode(words).decode()}"),)
