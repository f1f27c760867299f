"""The client of the model `tensorrt_llm`, over Triton's own HTTP port on loopback.

Not by BLS (business logic scripting), Triton's calls from one model to another: with 2.51 a call's
end cannot be requested (`ResponseIterator.cancel` came in 2025), and while a call waits for its
first response it holds one of the 32 threads that also carry the model's own responses, so 256
streams stood still for 12 s where here the longest pause was 0.1 s (both measured on 2.51). Over
HTTP a request ends with its connection, and the Python of the server needs no package for it.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

_PATH = "/v2/models/tensorrt_llm/generate_stream"
_HEAD = (
    f"POST {_PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
).encode()
_READ_SIZE = 1 << 16
_UNREACHABLE = 503


class EngineError(Exception):
    """The engine's model refused or failed a request; the message is its own.

    Attributes:
        status: HTTP's status, 500 for an error after the first response.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class EngineClient:
    """The client of the engine's model.

    Args:
        address: `HOST:PORT` of Triton's HTTP.
    """

    def __init__(self, address: str) -> None:
        self._host, _, self._port = address.rpartition(":")

    async def generate(self, body: Mapping[str, Any]) -> AsyncIterator[list[dict[str, Any]]]:
        """Sends a request; yields lists of responses that arrived together.

        Closing the generator closes the connection, on which Triton cancels the request.

        Args:
            body: the inputs by name, tensors of several dimensions flat.

        Raises:
            EngineError: the request is refused or fails.
        """
        reader, writer = await self._open()
        try:
            content = json.dumps(body).encode()
            writer.write(_HEAD % len(content) + content)
            status = await _status(reader)
            received = bytearray()
            if status != 200:
                received += await reader.read()
                raise EngineError(status, _reason(received))
            while data := await reader.read(_READ_SIZE):
                received += data
                if events := _take_chunks(received):
                    yield [_response(event) for event in events]
        except OSError as error:
            raise EngineError(
                _UNREACHABLE, f"the engine's model closed the connection: {error}"
            ) from error
        finally:
            writer.close()

    async def stop(self, request_id: str) -> None:
        """Ends a running request by its id, at once; it may have ended.

        The C++ backend asks Triton for cancelled requests only every 100 ms (TensorRT-LLM 1.0.0,
        `cancellation_check_period_ms`); it obeys a request with `stop` as soon as that arrives.
        """
        stop = {
            "id": request_id,
            "stop": True,
            # Required inputs of every request.
            "input_ids": [0],
            "input_lengths": 1,
            "request_output_len": 1,
        }
        async for _ in self.generate(stop):
            pass

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.open_connection(self._host, int(self._port))
        except OSError as error:
            raise EngineError(
                _UNREACHABLE,
                f"the engine's model cannot be reached at {self._host}:{self._port}: {error}",
            ) from error


async def _status(reader: asyncio.StreamReader) -> int:
    """Reads a response up to its body; gives the status."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        raise EngineError(_UNREACHABLE, "the server has closed the connection") from None
    return int(head.split(maxsplit=2)[1])


def _take_chunks(received: bytearray) -> list[bytes]:
    """Removes the complete chunks from what was received; drops the empty last one.

    Triton sends each event as one chunk (http_server.cc, and the chunked coding of RFC 9112).
    """
    chunks = []
    while (line_end := received.find(b"\r\n")) >= 0:
        size = int(received[:line_end], 16)
        begin, end = line_end + 2, line_end + 2 + size
        if len(received) < end + 2:
            break
        if size:
            chunks.append(bytes(received[begin:end]))
        del received[: end + 2]
    return chunks


def _response(event: bytes) -> dict[str, Any]:
    response: dict[str, Any] = json.loads(event.removeprefix(b"data:"))
    if "error" in response:
        raise EngineError(500, str(response["error"]))
    return response


def _reason(content: bytearray) -> str:
    """The error in an answer's body, JSON or an event in a chunk."""
    body = bytes(content) if content.startswith(b"{") else b"".join(_take_chunks(content))
    text = body.decode("utf-8", errors="replace").strip().removeprefix("data:")
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text or "the engine's model gave no reason"
