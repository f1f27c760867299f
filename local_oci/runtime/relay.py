"""Carries bytes from Unix sockets, which namespaces share, to ports inside a network namespace."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping

_CHUNK_BYTES = 1 << 16


def serve(ports: Mapping[socket.socket, int]) -> None:
    """Relay for ever."""
    asyncio.run(_serve(ports))


async def _serve(ports: Mapping[socket.socket, int]) -> None:
    servers = []
    for listener, port in ports.items():

        async def relay(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int = port
        ) -> None:
            await _relay(reader, writer, port)

        servers.append(await asyncio.start_unix_server(relay, sock=listener))
    await asyncio.Event().wait()  # with no port at all as well: its end ends the container


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """Join one connection with one to the port; if nothing listens there, just close it."""
    try:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        writer.close()
        return
    directions = (
        asyncio.create_task(_copy(reader, inner_writer)),
        asyncio.create_task(_copy(inner_reader, writer)),
    )
    # A gateway never closes half a connection: when one side is gone, so is the exchange.
    _, other = await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
    for direction in other:
        direction.cancel()
    for end in (inner_writer, writer):
        end.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(_CHUNK_BYTES):
            target.write(data)
            await target.drain()
