"""A container's output, whose pieces may end within a line."""

import tracemalloc

from falconry.docker_engine.containers import complete_lines


def lines(*pieces):
    return [(output.stdout, output.stderr) for output in complete_lines(pieces)]


def test_a_line_may_come_in_pieces():
    assert lines((b"con", None), (b"vert", None), (b"ing\nnext", None)) == [
        (b"converting\n", b""),
        (b"next", b""),
    ]


def test_a_line_of_the_other_stream_does_not_get_into_a_line():
    assert lines((b"::falconry::{", None), (None, b"no such "), (b"}\n", None), (None, b"x\n")) == [
        (b"::falconry::{}\n", b""),
        (b"", b"no such x\n"),
        (b"", b""),
    ]


def test_a_progress_bar_shows_as_it_grows():
    assert lines((b"\r 10%", None), (b"\r 20%", None)) == [
        (b"\r", b""),
        (b" 10%\r", b""),
        (b" 20%", b""),
    ]


def test_output_without_a_line_end_is_not_hoarded():
    tracemalloc.start()
    size = 0
    for output in complete_lines((b"\0" * 65536, None) for _ in range(100)):
        size += len(output.stdout)
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    tracemalloc.stop()
    assert size == 100 * 65536
