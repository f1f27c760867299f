"""What a fault does to the bodies of a request and its response: cut them, or slow them down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import Message, Receive, Send

# A slow body comes in pieces of what passes within this time.
_PIECE_SECONDS = 0.1


class CutError(Exception):
    """Unwinds a request whose connection was cut."""


def cut_request(receive: Receive, cut: Callable[[], None], after_bytes: int) -> Receive:
    """A `receive` that closes the connection after so many bytes of the request's body."""
    left = after_bytes

    async def cutting_receive() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0 or (left == 0 and message.get("more_body", False)):
            cut()
            raise CutError
        return message

    return cutting_receive


def cut_response(send: Send, cut: Callable[[], None], after_bytes: int) -> Send:
    """A `send` that closes the connection after so many bytes of the response's body."""
    left = after_bytes
    start: Message | None = None

    async def cutting_send(message: Message) -> None:
        nonlocal left, start
        if message["type"] == "http.response.start":
            start = message  # held back: with nothing of the body, there is no head either
            return
        body = message.get("body", b"")
        if start is not None and after_bytes > 0:
            await send(start)
            start = None
        if len(body) < left:
            left -= len(body)
            await send(message)
            return
        if left > 0:
            await send({**message, "body": body[:left], "more_body": True})
        cut()
        raise CutError

    return cutting_send


def slow_receive(receive: Receive, bytes_per_second: int) -> Receive:
    """A `receive` that takes its time with the request's body."""

    async def unhurried() -> Message:
        message = await receive()
        await asyncio.sleep(len(message.get("body", b"")) / bytes_per_second)
        return message

    return unhurried


def slow_send(send: Send, bytes_per_second: int) -> Send:
    """A `send` that gives the response's body in small pieces, at a steady pace."""
    piece = max(1, int(bytes_per_second * _PIECE_SECONDS))

    async def unhurried(message: Message) -> None:
        body = message.get("body", b"")
        if message["type"] != "http.response.body" or not body:
            await send(message)
            return
        for first in range(0, len(body), piece):
            part = body[first : first + piece]
            last = first + piece >= len(body)
            await asyncio.sleep(len(part) / bytes_per_second)
            more = message.get("more_body", False) if last else True
            await send({**message, "body": part, "more_body": more})

    return unhurried
