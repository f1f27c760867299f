"""Large bodies: from the wire into a blob and back, a mebibyte in memory at a time.

Disk and hash work happens in worker threads.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from typing import BinaryIO

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from local_oci.http.errors import ServiceError, invalid_parameter
from local_oci.http.messages import natural_number
from local_oci.storage.blobs import Blobs, WrittenBlob

_CHUNK_BYTES = 1 << 20


async def receive_blob(request: Request, blobs: Blobs) -> WrittenBlob:
    """Store the body of a request.

    Raises:
        ServiceError: 400 if the body differs from its content-md5 header.
        OSError: the disk is full, and all of the body has arrived nevertheless.
        starlette.requests.ClientDisconnect: the client went away; nothing is kept.
    """
    stream = request.stream()
    writer = await asyncio.to_thread(blobs.writer)
    try:
        buffer = bytearray()
        async for data in stream:
            buffer += data
            if len(buffer) >= _CHUNK_BYTES:
                await asyncio.to_thread(writer.write, bytes(buffer))
                buffer.clear()
        await asyncio.to_thread(writer.write, bytes(buffer))
        blob = await asyncio.to_thread(writer.finish)
    except OSError:
        # A client reads the answer when it has sent all, and takes a closed connection for an
        # accident that calls for a second try.
        async for _ in stream:
            pass
        raise
    finally:
        await asyncio.to_thread(writer.abandon)
    expected = request.headers.get("content-md5")
    if expected is not None and expected != blob.md5:
        blobs.delete(blob.name)
        raise ServiceError(
            400,
            "UnmatchedContentMD5",
            f"The computed MD5 of the request body ({blob.md5}) does not match the Content-MD5 "
            f"header ({expected})",
        )
    return blob


def blob_response(
    request: Request, blobs: Blobs, name: str, size: int, headers: Mapping[str, str]
) -> Response:
    """Send a blob, or the range of it that the request asks for; a HEAD gets the headers only.

    Raises:
        ServiceError: 416 InvalidRange.
    """
    first, last = _requested_range(request.headers.get("range"), size)
    partial = (first, last) != (0, size - 1)
    sent = {**headers, "content-length": str(last - first + 1), "accept-ranges": "bytes"}
    if partial:
        sent["content-range"] = f"bytes {first}-{last}/{size}"
    status = 206 if partial else 200
    if request.method == "HEAD":
        return Response(None, status, sent)
    return StreamingResponse(_read(blobs.open(name), first, last), status, sent)


def _requested_range(header: str | None, size: int) -> tuple[int, int]:
    """First and last byte, both included; for an empty blob (0, -1)."""
    if header is None:
        return 0, size - 1
    unit, _, limits = header.strip().partition("=")
    start, dash, end = limits.partition("-")
    from_byte, to_byte = natural_number(start), natural_number(end)
    wrong = (start != "" and from_byte is None) or (end != "" and to_byte is None)
    if unit != "bytes" or not dash or wrong or start == end == "":
        raise invalid_parameter(f"range: '{header[:100]}' is not a single range of bytes.")
    last = size - 1 if to_byte is None else min(to_byte, size - 1)
    if from_byte is None:
        first, last = max(0, size - (to_byte or 0)), size - 1
    else:
        first = from_byte
    if first > last:
        raise ServiceError(416, "InvalidRange", f"The range '{header}' is not within {size} bytes.")
    return first, last


async def _read(file: BinaryIO, first: int, last: int) -> AsyncIterator[bytes]:
    with file:
        await asyncio.to_thread(file.seek, first, os.SEEK_SET)
        left = last - first + 1
        while left > 0:
            data = await asyncio.to_thread(file.read, min(left, _CHUNK_BYTES))
            left -= len(data)
            yield data
