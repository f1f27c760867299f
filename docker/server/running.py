"""The requests under way: ids that no other request has, and tokens to stop them by.

Models stop requests by their id, and clients choose ids, so that anybody's `stop` would end
anybody's request. Here a request gets an id of the front's own before any model sees it. Its client
gets a token: a `stop` is obeyed with the token alone.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from triton_bodies import InvalidBodyError

STOP_TOKEN = "stop_token"
TOKEN_HEADER = "Falconry-Stop-Token"
_EVENT = b"data: {"
_ERROR_EVENT = b'data: {"error":'
_OTHERS = re.compile(r"[^A-Za-z0-9_:-]")
_LONGEST_SHOWN = 64
_TOKEN_LENGTHS = range(16, 201)
# What Triton's own errors say without an id.
_NO_ID = b"<id_unknown>"


@dataclass(frozen=True, slots=True)
class RunningRequest:
    """A request as Triton gets it.

    Attributes:
        content: its body, or the JSON part of it.
        client_id: what its client calls it, if anything.
        unique_id: what models know it by; of a stop, that of the request to be stopped.
        token: what its client may stop it by; None for a stop.
    """

    content: dict[str, Any]
    client_id: str | None
    unique_id: str
    token: str | None

    @property
    def stops(self) -> bool:
        """Whether it stops another one."""
        return self.token is None

    def answer(self, part: bytes) -> bytes:
        """An answer's body or event, with the client's own id in place of ours."""
        unique = self.unique_id.encode()
        if self.client_id is None:
            # Triton sorts the fields of `generate` and begins those of `infer` with the id: there
            # are always others behind it.
            part = part.replace(b'"id":"%b",' % unique, b"")
            return part.replace(unique, _NO_ID)
        return part.replace(unique, json.dumps(self.client_id, ensure_ascii=False)[1:-1].encode())

    def first_event(self, event: bytes) -> bytes:
        """A stream's first event with the token; unchanged if it is an error."""
        if not event.startswith(_EVENT) or event.startswith(_ERROR_EVENT):
            return event
        return b'%b"%b":"%b",%b' % (
            _EVENT,
            STOP_TOKEN.encode(),
            str(self.token).encode(),
            event.removeprefix(_EVENT),
        )


class RunningRequests:
    """All of them, by their tokens."""

    def __init__(self) -> None:
        self._unique_ids: dict[str, str] = {}

    @contextmanager
    def begin(self, content: Mapping[str, Any], verb: str) -> Iterator[RunningRequest]:
        """Gives a request its id, and remembers its token until the context ends.

        Args:
            content: the body, or the JSON part of it.
            verb: `infer`, whose token is among its parameters, or another one.

        Raises:
            InvalidBodyError: the id or the token cannot be one, or a stop has no token.
        """
        client_id = content.get("id")
        if not isinstance(client_id, str | None):
            raise InvalidBodyError("id must be text")
        own, given = _without_token(content, verb)
        unique_id = _unique_id(client_id)
        if _is_stop(content, verb):
            if given is None:
                raise InvalidBodyError(
                    "stop: give the stop_token of the answer that is to be stopped (its header "
                    f"{TOKEN_HEADER}, or the field of its first event)"
                )
            unique_id = self._unique_ids.get(given, unique_id)
            yield RunningRequest({**own, "id": unique_id}, client_id or None, unique_id, None)
            return
        token = self._new_token(given)
        self._unique_ids[token] = unique_id
        try:
            yield RunningRequest({**own, "id": unique_id}, client_id or None, unique_id, token)
        finally:
            del self._unique_ids[token]

    def _new_token(self, given: str | None) -> str:
        """A token of ours, or the client's choice."""
        if given is None:
            return secrets.token_urlsafe(24)
        if len(given) not in _TOKEN_LENGTHS or not given.isascii() or not given.isprintable():
            raise InvalidBodyError("stop_token must be 16 to 200 characters of printable ASCII")
        if given in self._unique_ids:
            raise InvalidBodyError("stop_token is that of another request: choose a random one")
        return given


def _unique_id(client_id: str | None) -> str:
    """A new id that cannot be guessed; it begins with what of the client's can be in a log."""
    shown = _OTHERS.sub("_", (client_id or "")[:_LONGEST_SHOWN])
    return f"{shown or 'request'}.{secrets.token_hex(16)}"


def _without_token(content: Mapping[str, Any], verb: str) -> tuple[dict[str, Any], str | None]:
    """A body less its token, and the token."""
    own, token = dict(content), None
    if verb != "infer":
        token = own.pop(STOP_TOKEN, None)
    elif isinstance(own.get("parameters"), Mapping) and STOP_TOKEN in own["parameters"]:
        own["parameters"] = dict(own["parameters"])
        token = own["parameters"].pop(STOP_TOKEN)
    if not isinstance(token, str | None):
        raise InvalidBodyError("stop_token must be text")
    return own, token


def _is_stop(content: Mapping[str, Any], verb: str) -> bool:
    if verb != "infer":
        return _has_true(content.get("stop"))
    inputs = content.get("inputs")
    return any(
        # Of data in raw bytes it is not looked whether it is true.
        isinstance(each, Mapping)
        and each.get("name") == "stop"
        and _has_true(each.get("data", True))
        for each in (inputs if isinstance(inputs, list) else [])
    )


def _has_true(value: Any) -> bool:
    return any(map(_has_true, value)) if isinstance(value, list) else bool(value)
