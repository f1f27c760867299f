"""Server-Sent Events as the standard has them, in whatever pieces they come."""

from __future__ import annotations

import pytest

from falconry.endpoint import events
from falconry.endpoint.events import BadStreamError, Event, events_of, text_of

# The examples of WHATWG HTML, "Server-sent events", 9.2.6, "Interpreting an event stream", with
# what the standard says that each means.
EXAMPLES = [
    (b"data: YHOO\ndata: +2\ndata: 10\n\n", [Event("YHOO\n+2\n10")]),
    (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event",
        [Event("first event"), Event("second event")],
    ),
    (b"data\n\ndata\ndata\n\ndata:", [Event(""), Event("\n")]),
    (b"data:test\n\ndata: test\n\n", [Event("test"), Event("test")]),
    (b"event: add\ndata: 73857293\n\n", [Event("73857293", "add")]),
]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize(("stream", "expected"), EXAMPLES)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_the_standards_examples_mean_what_it_says(
    stream: bytes, expected: list[Event], end: bytes, size: int
) -> None:
    stream = stream.replace(b"\n", end) + (b": the end" if end == b"\r" else b"")
    chunks = [stream[i : i + size] for i in range(0, len(stream), size)]
    assert list(events_of(chunks)) == expected


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    assert list(events_of([b"\xef\xbb\xbfdata: a\n\n"])) == [Event("a")]


def test_separators_that_only_python_takes_for_line_ends_are_text() -> None:
    assert list(events_of(["data: a\u2028b\x0bc\n\n".encode()])) == [Event("a\u2028b\x0bc")]


@pytest.mark.parametrize("content", [b"data: " + b"x" * 300, b"data: x\n" * 40])
def test_what_never_ends_is_stopped(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_MOST_CHARACTERS", 200)
    with pytest.raises(BadStreamError, match="longer than 200"):
        list(events_of([content[i : i + 7] for i in range(0, len(content), 7)]))


def test_text_has_the_charset_that_it_says() -> None:
    assert list(text_of([b"F\xfcchse"], "latin-1")) == ["Füchse"]


def test_half_a_character_at_the_end_is_no_text() -> None:
    with pytest.raises(BadStreamError, match="are not utf-8"):
        list(text_of([b"F\xc3"]))
