"""Large bodies: from the wire into a blob and back, never whole in memory.

Disk and hash work happens in worker threads, a mebibyte at a time; where the server can, a thread
takes a large body from the socket, and the kernel sends a file's bytes by itself.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import chain
from typing import BinaryIO

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from local_oci.http.connection import SENDFILE, TAKE_BODY, FileSlice
from local_oci.http.errors import ServiceError, invalid_parameter
from local_oci.http.taking import BodyTaking
from local_oci.storage.blobs import Blobs, BlobWriter, WrittenBlob
from local_oci.storage.segments import Slice, slices

_CHUNK_BYTES = 1 << 20
_LARGE_BYTES = 1 << 20
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


async def receive_blob(request: Request, blobs: Blobs) -> WrittenBlob:
    """Store the body of a request.

    Raises:
        ServiceError: 400 if the body differs from its content-md5 header.
        starlette.requests.ClientDisconnect: the client went away; nothing is kept.
    """
    writer = await asyncio.to_thread(blobs.writer)
    try:
        taking: BodyTaking | None = request.scope.get("extensions", {}).get(TAKE_BODY)
        size = _large_size(request)
        if taking is not None and size is not None and taking.may_take(request.receive):
            await taking.take(lambda read_into: writer.fill(read_into, size))
        else:
            await _receive_piecemeal(request, writer)
        blob = await asyncio.to_thread(writer.finish)
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


def _large_size(request: Request) -> int | None:
    """The size of a body that is worth a thread of its own."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() and int(length) >= _LARGE_BYTES else None


async def _receive_piecemeal(request: Request, writer: BlobWriter) -> None:
    buffer = bytearray()
    async for data in request.stream():
        buffer += data
        if len(buffer) >= _CHUNK_BYTES:
            await asyncio.to_thread(writer.write, bytes(buffer))
            buffer.clear()
    await asyncio.to_thread(writer.write, bytes(buffer))


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
    if SENDFILE in request.scope.get("extensions", {}):
        # The first file is opened now: it stays readable although the blob be deleted meanwhile.
        parts = _opened(slices(blobs.path(name), first, last - first + 1))
        return _FileResponse(next(parts, None), parts, status, sent)
    return StreamingResponse(_read(blobs.open(name), first, last), status, sent)


def _opened(parts: Iterator[Slice]) -> Iterator[FileSlice]:
    for part in parts:
        yield FileSlice(part.path.open("rb"), part.offset, part.count)


class _FileResponse(Response):
    """Parts of files that go from the disk to the network without passing through here."""

    def __init__(
        self,
        first: FileSlice | None,
        others: Iterator[FileSlice],
        status: int,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(None, status, headers)
        self._parts = chain([first] if first else [], others)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, see the ASGI specification."""
        head = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **head})
        for part in self._parts:
            with part.file:
                await scope["extensions"][SENDFILE](part)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _requested_range(header: str | None, size: int) -> tuple[int, int]:
    """First and last byte, both included; for an empty blob (0, -1)."""
    if header is None:
        return 0, size - 1
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.group(1) == match.group(2) == "":
        raise invalid_parameter(f"range: '{header}' is not a single range of bytes.")
    start, end = match.groups()
    if start == "":
        first, last = max(0, size - int(end)), size - 1
    else:
        first, last = int(start), min(int(end) if end else size - 1, size - 1)
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
