"""An error is one line, and nothing that a terminal would obey is ever printed."""

import io

import pytest

from falconry.errors import FalconryError, format_error, format_error_with_details, printable
from falconry.progress import Progress

HOSTILE = "\x1b[2Jgone\x07\r\x08 \x9b31m \u202eevil\u2066 \x7f\x00 \ud800 line\nfeed"
ESCAPED = (
    r"\u001b[2Jgone\u0007\u000d\u0008 \u009b31m \u202eevil\u2066 \u007f\u0000 \ud800 line\nfeed"
)


def test_an_error_is_one_line_whatever_its_parts_hold():
    error = FalconryError(f"is {HOSTILE}", where=HOSTILE, remedy=HOSTILE, details=[HOSTILE])
    assert format_error(error) == f"{ESCAPED}: is {ESCAPED}; {ESCAPED}"
    assert format_error_with_details(error).split("\n    ") == [format_error(error), ESCAPED]
    assert str(error) == format_error(error)


def test_a_very_long_error_is_shortened_in_its_middle():
    text = format_error(FalconryError("x" * 1_000_000, where="config.json", remedy="mend it"))
    assert text.startswith("config.json: xxx")
    assert text.endswith("xxx; mend it")
    assert len(text) < 3_000


@pytest.mark.parametrize(
    "text", ["plain", "Grüße, 世界 \U0001f985", "tab\tand\nline", "مرحبا \u200f\u200e"]
)
def test_text_of_any_language_is_printed_as_it_is(text):
    assert printable(text) == text


def test_text_with_the_line_ends_of_other_systems_has_its_lines():
    assert printable("a\r\nb") == "a\nb"


@pytest.mark.parametrize("kind", [io.StringIO, lambda: io.TextIOWrapper(io.BytesIO(), "utf-8")])
def test_no_method_of_the_progress_prints_a_control_character(kind):
    stream = kind()
    progress = Progress(stream)
    progress.running(HOSTILE, HOSTILE, 0.5)
    progress.done(HOSTILE, HOSTILE, HOSTILE)
    progress.failed(HOSTILE, HOSTILE)
    progress.waiting(HOSTILE, HOSTILE)
    progress.planned(HOSTILE, True, HOSTILE, [HOSTILE])
    progress.note(HOSTILE)
    stream.seek(0)
    printed = stream.read()
    assert [each for each in printed if not each.isprintable() and each != "\n"] == []
    assert printed.count(r"\u001b[2J") == 13


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_no_control_character_of_a_models_text():
    stream = Terminal()
    Progress(stream).text(["a", HOSTILE])
    assert stream.getvalue() == f"a{printable(HOSTILE)}\n"


def test_a_pipe_gets_a_models_text_unchanged():
    said = HOSTILE.replace("\ud800", "") + "\r\n\x15"
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8")
    Progress(stream).text(["a", said])
    assert stream.buffer.getvalue() == f"a{said}\n".encode()


def test_a_terminal_that_has_no_umlauts_gets_escapes():
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    Progress(stream).note("Grüße")
    stream.seek(0)
    assert stream.read() == "Gr\\xfc\\xdfe\n"
