import io
import json

import pytest

from falconry.errors import ImageError
from falconry.findings import Finding, as_json, failures, refuse, rows, show, verdict
from falconry.progress import Progress

FINE = Finding("a", "ok", "fine")
WRONG = Finding("b", "failed", "it runs as root", "add USER")
NO_MATTER = Finding("c", "skipped", "not needed: no reason")
DOUBTFUL = Finding("d", "warning", "it is large", "make it smaller")


def refused(*findings):
    with pytest.raises(ImageError) as raised:
        refuse(findings, ImageError, "this push", "falcon:1")
    return str(raised.value)


def test_only_a_failure_stops_the_work():
    assert failures([FINE, NO_MATTER, DOUBTFUL]) == []
    assert failures([FINE, WRONG, NO_MATTER]) == [WRONG]
    refuse([FINE, NO_MATTER, DOUBTFUL], ImageError, "this push")


def test_a_verdict_has_a_remedy_only_where_the_check_failed():
    assert verdict("a", True, "fine", "wrong", "correct it") == FINE
    assert verdict("b", False, "fine", "it runs as root", "add USER") == WRONG


def test_one_failure_is_the_error_itself():
    assert refused(FINE, WRONG, DOUBTFUL) == "falcon:1: it runs as root; add USER"


def test_several_failures_come_in_one_error_each_with_its_remedy():
    without_remedy = Finding("curl", "failed", "no curl")
    assert refused(WRONG, FINE, without_remedy) == (
        "falcon:1: 2 things prevent this push: (1) it runs as root: add USER; (2) no curl"
    )


def test_people_read_a_line_a_finding():
    found = [FINE, WRONG, NO_MATTER, DOUBTFUL]
    assert rows(found) == [
        ("a", "ok", "fine"),
        ("b", "not ok", "it runs as root; add USER"),
        ("c", "skipped", "not needed: no reason"),
        ("d", "warning", "it is large; make it smaller"),
    ]
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    show(found, Progress(stream))
    assert stream.buffer.getvalue().decode().splitlines() == [
        "ok a            ok              fine",
        "!! b            not ok          it runs as root; add USER",
        "-- c            skipped         not needed: no reason",
        "ok d            warning         it is large; make it smaller",
    ]


def test_programs_read_the_same():
    assert json.loads(json.dumps(as_json([WRONG, NO_MATTER, FINE]))) == [
        {"name": "b", "ok": False, "detail": "it runs as root", "remedy": "add USER"},
        {"name": "c", "ok": None, "detail": "not needed: no reason", "remedy": ""},
        {"name": "a", "ok": True, "detail": "fine", "remedy": ""},
    ]
