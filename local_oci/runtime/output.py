"""The lines that a container writes: passed on as they come, the last ones kept."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from local_oci.runtime.runner import OutputSink, Stream

_READ_BYTES = 1 << 16
_MAX_LINE_BYTES = 1 << 16

_log = logging.getLogger("local_oci.runtime")


class LineReader:
    """Splits one output stream into lines.

    Args:
        stream: which one it is.
        sink: receives the lines of each read together.
        keep: how many of the last lines to remember.
    """

    def __init__(self, stream: Stream, sink: OutputSink, keep: int) -> None:
        self._stream = stream
        self._sink = sink
        self._unfinished = b""
        self.last: deque[str] = deque(maxlen=keep)

    async def read(self, source: asyncio.StreamReader) -> None:
        """Read until the stream ends."""
        while data := await source.read(_READ_BYTES):
            self.feed(data)
        self.finish()

    def feed(self, data: bytes) -> None:
        """Take what was read and pass on the lines that it completes."""
        *lines, self._unfinished = (self._unfinished + data).split(b"\n")
        if len(self._unfinished) > _MAX_LINE_BYTES:
            lines.append(self._unfinished)
            self._unfinished = b""
        self._pass_on(lines)

    def finish(self) -> None:
        """The stream has ended: pass on what is left without an end of line."""
        if self._unfinished:
            self._pass_on([self._unfinished])
            self._unfinished = b""

    def _pass_on(self, lines: list[bytes]) -> None:
        texts = [line.rstrip(b"\r").decode(errors="replace") for line in lines]
        if texts:
            self.last.extend(texts)
            try:
                self._sink(self._stream, texts)
            except Exception:
                # A container must not stall on a full pipe because its lines cannot be kept.
                _log.exception("%d lines of a container's output are lost", len(texts))
