"""Progress of stages for a terminal or a CI log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TextIO

from falconry.errors import MachineError, OutputClosedError, printable, printable_line
from falconry.streams import encodable, silence

DONE, RUNNING, FAILED, WAITING = "✔", "▸", "✘", "…"
_ASCII = {DONE: "ok", RUNNING: "..", FAILED: "!!", WAITING: "--"}
# A log that is not a terminal gets a line when the step changes, and otherwise at most this often.
_LOG_INTERVAL_S = 5.0
_DETAIL = " · "


class Progress:
    """Prints stage lines: `▸ deployment  creating  60 %  Starting container`.

    On a terminal a running line is rewritten in place; elsewhere each new step is a line of its
    own, so that a CI log grows with the steps and not with the time.

    Control characters in what it is given never reach the stream: models, checkpoints and servers
    may send any. Only `text` leaves them as they are where the stream is no terminal. Every method
    raises `OutputClosedError` once the stream's reader has closed it, and a `MachineError` where
    the stream cannot be written to.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._is_terminal = self._stream.isatty()
        self._in_place = self._is_terminal and os.environ.get("TERM") != "dumb"
        self._open = False
        self._last_step = ("", "")
        self._last_time = 0.0

    def running(self, stage: str, step: str, fraction: float | None = None) -> None:
        """Reports a stage's step and the fraction done (0 to 1).

        What follows ` · ` in a step is a detail, such as a rate, and makes no new step.
        """
        percent = f"{fraction:4.0%}  " if fraction is not None else ""
        if self._in_place:
            self._write(f"\r\x1b[K{_line(self._mark(RUNNING), stage, percent + step)}")
            self._open = True
            return
        elapsed = time.monotonic() - self._last_time
        key = (stage, step.partition(_DETAIL)[0])
        if key != self._last_step or elapsed >= _LOG_INTERVAL_S:
            self._write(_line(self._mark(RUNNING), stage, percent + step) + "\n")
            self._last_step, self._last_time = key, time.monotonic()

    def done(self, stage: str, state: str, detail: str = "") -> None:
        """Closes a stage's line with its state and its result."""
        self._close(DONE, stage, f"{state:<16}{detail}".rstrip())

    def failed(self, stage: str, state: str) -> None:
        """Closes a stage's line as failed; the exception says why."""
        self._close(FAILED, stage, state)

    def waiting(self, stage: str, reason: str) -> None:
        """Reports what a stage is waiting for."""
        self._close(WAITING, stage, reason)

    def planned(self, stage: str, runs: bool, why: str, details: Sequence[str] = ()) -> None:
        """Reports whether and why a stage would run, with details below."""
        self._close(
            RUNNING if runs else DONE, stage, f"{'would run' if runs else 'up to date':<16}{why}"
        )
        for line in details:
            self._write(f"    {printable_line(line)}\n")

    def note(self, text: str) -> None:
        """Prints a line of its own."""
        self._end_open_line()
        self._write(f"{printable(text)}\n")

    def text(self, pieces: Iterable[str]) -> None:
        """Prints a model's text as it comes, and ends its last line.

        Whoever reads it from a pipe or a file gets it unchanged; only a terminal obeys control
        characters.
        """
        self._end_open_line()
        try:
            for piece in pieces:
                self._write(printable(piece) if self._is_terminal else piece)
        finally:
            self._write("\n")

    def _close(self, mark: str, stage: str, text: str) -> None:
        self._end_open_line()
        self._write(_line(self._mark(mark), stage, text) + "\n")

    def _end_open_line(self) -> None:
        if self._open:
            self._write("\r\x1b[K")
            self._open = False

    def _mark(self, mark: str) -> str:
        lacking = mark not in encodable(mark, self._stream.encoding)
        return _ASCII[mark] if lacking else mark

    def _write(self, text: str) -> None:
        try:
            self._stream.write(encodable(text, self._stream.encoding))
            self._stream.flush()
        except BrokenPipeError:
            silence(self._stream)
            raise OutputClosedError from None
        except OSError as error:
            silence(self._stream)
            reason = (error.strerror or str(error)).lower()
            name = self._stream.name.strip("<>")
            raise MachineError(f"cannot be written to ({reason})", where=name) from None


def _line(mark: str, stage: str, text: str) -> str:
    return f"{mark} {printable_line(f'{stage:<13}{text}')}"


def human_size(size: int) -> str:
    """Formats bytes with a decimal unit: `2.1 MB`."""
    if size < 1000:
        return f"{size} B"
    value = float(size)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 1000 or unit == "TB":
            break
    return f"{value:.1f} {unit}"


def human_count(count: int) -> str:
    """Formats a count with a short unit: `1.6 M`."""
    value = float(count)
    for unit in ("", " k", " M", " G"):
        if value < 1000 or unit == " G":
            break
        value /= 1000
    return f"{value:.1f}{unit}" if unit else str(count)
