"""Content codings of bodies: decodes requests, and encodes complete answers as clients ask.

The codings are Triton's: gzip and deflate (triton-inference-server/server, http_server.cc of 2.51).
Between the front and Triton nothing is encoded, for the front looks into both.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from aiohttp import web
from errors import ApiError, invalid

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_NONE = frozenset({"", "identity"})
_GZIP = frozenset({"gzip", "x-gzip"})  # RFC 9110, section 8.4.1.3
_DEFLATE = "deflate"
# Members that follow each other in one gzip body: each costs a copy of what follows it.
_MOST_MEMBERS = 64
_PIECE = 256 << 10
_ZLIB_METHOD = 8  # in the first byte of RFC 1950, which a bare RFC 1951 stream of clients lacks


class Decoder:
    """Decodes a body while it arrives.

    Args:
        encoding: the request's Content-Encoding.

    Raises:
        ApiError: 400 if it is none of ours.
    """

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding.strip().lower()
        self._members = 0
        self._stream: Any = None
        if self._encoding not in _NONE | _GZIP | {_DEFLATE}:
            raise invalid(
                "the Content-Encoding is not supported: send gzip, deflate or identity",
                reason="invalid_body",
            )

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Yields what the data hold, in pieces that do not grow with them.

        Raises:
            ApiError: 400 if the data are not what the Content-Encoding says.
        """
        if self._encoding in _NONE:
            yield data
            return
        more = True
        while data or more:
            stream = self._open(data)
            try:
                piece = stream.decompress(data, _PIECE)
            except zlib.error:
                raise self._wrong() from None
            data = stream.unused_data if stream.eof else stream.unconsumed_tail
            more = len(piece) == _PIECE and not stream.eof
            if piece:
                yield piece

    def finish(self) -> None:
        """Checks that the body is complete.

        Raises:
            ApiError: 400 if it ends too early.
        """
        if self._encoding not in _NONE and not (self._stream and self._stream.eof):
            raise self._wrong()

    def _open(self, data: bytes) -> Any:
        """The stream that the next data belong to; gzip may have several, one after another."""
        if self._stream is None or (self._stream.eof and data):
            self._members += 1
            if self._members > (_MOST_MEMBERS if self._encoding in _GZIP else 1):
                raise self._wrong()
            self._stream = zlib.decompressobj(self._window_bits(data))
        return self._stream

    def _window_bits(self, data: bytes) -> int:
        if self._encoding in _GZIP:
            return 16 + zlib.MAX_WBITS
        return zlib.MAX_WBITS if data[:1] and data[0] & 15 == _ZLIB_METHOD else -zlib.MAX_WBITS

    def _wrong(self) -> ApiError:
        return invalid(
            f"the body is not what its Content-Encoding says: {self._encoding}",
            reason="invalid_body",
        )


def chosen_encoding(accepted: str) -> str | None:
    """The coding that an Accept-Encoding prefers; None to send the answer as it is.

    Of equal weights the first counts, as in Triton's `CompressionTypeUsed`.
    """
    best, most = None, 0.0
    for each in accepted.lower().split(","):
        name, _, parameter = (part.strip() for part in each.partition(";"))
        if name not in {"gzip", _DEFLATE, "identity"}:
            continue
        try:
            weight = float(parameter.removeprefix("q=").strip()) if parameter else 1.0
        except ValueError:
            continue
        if weight > most:
            best, most = name, weight
    return None if best == "identity" else best


def encode_answer(request: web.Request, response: web.StreamResponse, body: bytes) -> bytes:
    """The body of a complete answer in the coding that its client prefers.

    The response's headers say so. Errors stay as they are, as Triton's do: tritonclient reads them
    without decoding them.
    """
    if response.status >= web.HTTPBadRequest.status_code:
        return body
    encoding = chosen_encoding(",".join(request.headers.getall("Accept-Encoding", ())))
    if not body or not encoding or "Content-Encoding" in response.headers:
        return body
    response.headers["Content-Encoding"] = encoding
    return gzip.compress(body, mtime=0) if encoding == "gzip" else zlib.compress(body)


@web.middleware
async def encode_answers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Encodes the answers that are complete when their handler returns."""
    response = await handler(request)
    if isinstance(response, web.Response) and not response.prepared:
        body = response.body
        if isinstance(body, bytes):
            response.body = encode_answer(request, response, body)
    return response
