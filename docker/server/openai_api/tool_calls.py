"""Calls of tools in an answer's text, as it comes.

A call is written in tags, as the chat templates of Falcon3 and many others ask for it: a list of
objects with `name` and `arguments`, or one such object.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

BEGIN, END = "<tool_call>", "</tool_call>"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool.

    Attributes:
        name: of the function.
        arguments: as JSON text.
    """

    name: str
    arguments: str


class ToolCallText:
    """Parts an answer's text into calls and other text, however it is split.

    Args:
        parallel: whether several calls are wanted; otherwise the first one counts.

    Attributes:
        calls: how many there have been.
    """

    def __init__(self, *, parallel: bool) -> None:
        self._parallel = parallel
        self._held = ""
        self._inside = self._has_text = False
        self.calls = 0

    def add(self, text: str) -> list[str | ToolCall]:
        """Takes the next text; gives what is known to be text, and complete calls."""
        self._held += text
        return list(self._parts())

    def finish(self) -> list[str | ToolCall]:
        """Gives what is held when nothing more comes; a call may lack its end."""
        rest, self._held = self._held, ""
        if self._inside:
            calls = _parse(rest)
            return [*self._text(BEGIN + rest)] if calls is None else [*self._count(calls)]
        return [*self._text(rest)]

    def _parts(self) -> Iterator[str | ToolCall]:
        while True:
            if self._inside:
                end, calls = self._closed()
                if calls is None:
                    return
                self._held, self._inside = self._held[end:], False
                yield from self._count(calls)
            begin = self._held.find(BEGIN)
            if begin < 0:
                break
            before, self._held = self._held[:begin], self._held[begin + len(BEGIN) :]
            self._inside = True
            yield from self._text(before)
        size = len(self._held) - _begun(self._held)
        # Space before a call or after it is none of the answer's text.
        if self._held[:size].strip() or (self._has_text and not self.calls):
            before, self._held = self._held[:size], self._held[size:]
            yield from self._text(before)

    def _closed(self) -> tuple[int, list[ToolCall] | None]:
        """The calls up to a closing tag; a tag may also stand in an argument."""
        end = -1
        while (end := self._held.find(END, end + 1)) >= 0:
            if (calls := _parse(self._held[:end])) is not None:
                return end + len(END), calls
        return 0, None

    def _text(self, text: str) -> Iterator[str]:
        if text and (text.strip() or (self._has_text and not self.calls)):
            self._has_text = True
            yield text

    def _count(self, calls: list[ToolCall]) -> Iterator[ToolCall]:
        for call in calls:
            if self._parallel or not self.calls:
                self.calls += 1
                yield call


def _begun(text: str) -> int:
    """How many characters at a text's end may begin a tag."""
    return next(size for size in range(len(BEGIN) - 1, -1, -1) if text.endswith(BEGIN[:size]))


def _parse(text: str) -> list[ToolCall] | None:
    """The calls of a tag's content; None where it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    calls = [_call(each) for each in (value if isinstance(value, list) else [value])]
    known = [call for call in calls if call is not None]
    return known if known and len(known) == len(calls) else None


def _call(value: Any) -> ToolCall | None:
    if not isinstance(value, dict):
        return None
    value = value.get("function", value)  # some models repeat OpenAI's form
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return ToolCall(value["name"], arguments)
