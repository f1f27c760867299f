"""What the cloud's services answer, in outline: statuses, fields and headers, never values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

_OCID = re.compile(r"ocid1\.[a-z0-9]+\.[^/?]*")
# `/n/<namespace>/b/<bucket>/o/<object>` of Object Storage.
_NAMES = re.compile(r"/(n|b|o|u)/[^/]+")
_MOST_BYTES = 1 << 20
# Set by proxies and servers on the way, not by the service.
_NOT_OF_THE_SERVICE = frozenset({"connection", "date", "keep-alive", "server", "transfer-encoding"})


class Answers:
    """Collects the outlines of answers; an observer of `Session.observe`."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, set[str]]] = {}

    def __call__(self, response: Any, *_: Any, **__: Any) -> None:
        """Notes one answer, a `requests.Response`."""
        parts = self._found.setdefault(_operation(response), {})
        parts.setdefault("statuses", set()).add(str(response.status_code))
        parts.setdefault("headers", set()).update(
            name.lower() for name in response.headers if name.lower() not in _NOT_OF_THE_SERVICE
        )
        parts.setdefault("fields", set()).update(_fields(_json(response)))

    def facts(self) -> dict[str, dict[str, list[str]]]:
        """Returns the outlines by operation, sorted."""
        return {
            operation: {part: sorted(values) for part, values in sorted(parts.items())}
            for operation, parts in sorted(self._found.items())
        }


def _operation(response: Any) -> str:
    path = unquote(urlsplit(response.request.url).path)
    path = _NAMES.sub(r"/\1/{}", _OCID.sub("{id}", path))
    return f"{response.request.method} {path}"


def _json(response: Any) -> Any:
    """A small JSON answer's content; None for any other, which may be a stream."""
    kind = response.headers.get("content-type", "")
    size = response.headers.get("content-length", "0")
    if not kind.startswith("application/json") or not size.isdecimal() or int(size) > _MOST_BYTES:
        return None
    try:
        return response.json()
    except ValueError:
        return None


def _fields(value: Any, path: str = "") -> Iterator[str]:
    """The paths of all fields, `items[].id`; those of free names, such as tags, are left out."""
    if isinstance(value, list):
        for each in value:
            yield from _fields(each, f"{path}[]")
    elif isinstance(value, dict):
        for name, each in value.items():
            full = f"{path}.{name}" if path else str(name)
            yield full
            if not name.endswith(("Tags", "Variables", "ialData")):
                yield from _fields(each, full)
