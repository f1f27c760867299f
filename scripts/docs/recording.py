"""Records a terminal as an SVG: `python -m scripts.docs.recording`.

It runs the commands of the quick start on a terminal of its own and writes docs/quick-start.svg,
which GitHub shows as a moving picture. Pauses are shortened; nothing else is changed.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "quick-start.svg"
COMMANDS = (
    "make deploy",
    'make query STREAM=1 PROMPT="Explain Cloud Computing to a school kid"',
)
_COLUMNS, _ROWS = 104, 18
_LONGEST_PAUSE_S = 0.4  # of a recording; a real deploy takes longer
_KEY_S, _AFTER_COMMAND_S, _END_S = 0.03, 1.0, 5.0
_LINE_HEIGHT, _CHARACTER_WIDTH, _MARGIN = 19, 8.0, 14
_ERASE = "\r\x1b[K"  # what Progress rewrites a line with


@dataclass(frozen=True, slots=True)
class Moment:
    """What a terminal shows from a time on."""

    time: float
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """A line of the picture, and when it is there."""

    row: int
    text: str
    start: float
    end: float


def main() -> None:
    """Runs the commands and writes the picture."""
    moments = list(recorded(COMMANDS))
    PICTURE.write_text(svg(moments), encoding="utf-8")
    print(f"{PICTURE.relative_to(ROOT)}: {moments[-1].time:.0f} s")


def recorded(commands: Sequence[str]) -> Iterator[Moment]:
    """Runs commands in turn, and gives what the terminal shows."""
    screen, now = [""], 0.0
    for command in commands:
        for count in range(len(command) + 1):
            screen[-1] = f"$ {command[:count]}"
            now += _KEY_S
            yield _moment(now, screen)
        screen.append("")
        for pause, piece in _output(command):
            now += min(pause, _LONGEST_PAUSE_S)
            write(screen, piece)
            yield _moment(now, screen)
        now += _AFTER_COMMAND_S
    yield _moment(now + _END_S, screen)


def write(screen: list[str], piece: str) -> None:
    """Applies a program's output to the lines of a screen."""
    for part in re.split(r"(\r\x1b\[K|\r?\n)", piece):
        if part == _ERASE:
            screen[-1] = ""
        elif part in ("\n", "\r\n"):
            screen.append("")
        else:
            screen[-1] += part


def svg(moments: Sequence[Moment]) -> str:
    """Draws moments as a picture that moves, and repeats."""
    total = moments[-1].time
    width = _COLUMNS * _CHARACTER_WIDTH + 2 * _MARGIN
    height = max(len(each.lines) for each in moments) * _LINE_HEIGHT + 2 * _MARGIN
    rules, texts = [], []
    for number, each in enumerate(_shown(moments)):
        start, end = 100 * each.start / total, 100 * each.end / total
        rules.append(
            f"@keyframes k{number}{{0%,{start:.3f}%{{opacity:0}}{start + 0.001:.3f}%,{end:.3f}%"
            f"{{opacity:1}}{min(end + 0.001, 100):.3f}%,100%{{opacity:{int(end >= 100)}}}}}"
            f"#t{number}{{animation-name:k{number}}}"
        )
        y = _MARGIN + (each.row + 0.75) * _LINE_HEIGHT
        kind = ' class="p"' if each.text.startswith("$ ") else ""
        place = f'x="{_MARGIN}" y="{y:g}"'
        texts.append(f'<text id="t{number}"{kind} {place}>{escape(each.text)}</text>')
    style = (
        "text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#d7dae0;"
        f"white-space:pre;animation:{total:.2f}s step-end infinite}}.p{{fill:#7fd1b9}}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}">'
        f"<style>{style}{''.join(rules)}</style>"
        f'<rect width="100%" height="100%" rx="8" fill="#1d2129"/>\n'
        + "\n".join(texts)
        + "\n</svg>\n"
    )


def _output(command: str) -> Iterator[tuple[float, str]]:
    """Gives a command's output as it comes, with the seconds since the last piece."""
    reading, writing = pty.openpty()
    process = subprocess.Popen(
        command,
        shell=True,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": str(_COLUMNS), "MAKEFLAGS": "--silent"},
        stdin=subprocess.DEVNULL,
        stdout=writing,
        stderr=writing,
    )
    os.close(writing)
    last = time.monotonic()
    with os.fdopen(reading, "rb", buffering=0) as stream:
        while piece := _read(stream.fileno()):
            now = time.monotonic()
            yield now - last, piece
            last = now
    if process.wait():
        raise SystemExit(f"{command} ended with {process.returncode}")


def _read(descriptor: int) -> str:
    try:
        return os.read(descriptor, 65_536).decode("utf-8", "replace")
    except OSError:  # the terminal's end, once the program has closed it
        return ""


def _moment(now: float, screen: Sequence[str]) -> Moment:
    wrapped = [line[at : at + _COLUMNS] for line in screen for at in range(0, len(line), _COLUMNS)]
    return Moment(now, tuple(wrapped[-_ROWS:]))


def _shown(moments: Sequence[Moment]) -> list[Shown]:
    """The lines of all moments, each once for as long as it stays the same."""
    open_lines: dict[int, tuple[str, float]] = {}
    found = []
    for moment in moments:
        for row in range(_ROWS):
            text = moment.lines[row] if row < len(moment.lines) else ""
            before = open_lines.get(row)
            if before is not None and before[0] != text:
                found.append(Shown(row, before[0], before[1], moment.time))
            if before is None or before[0] != text:
                open_lines[row] = (text, moment.time)
    end = moments[-1].time
    found += [Shown(row, text, start, end) for row, (text, start) in open_lines.items()]
    return [each for each in found if each.text]


if __name__ == "__main__":
    main()
