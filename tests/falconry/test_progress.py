import io
import os

import pytest

from falconry.errors import OutputClosedError
from falconry.progress import Progress


def test_a_log_grows_by_steps_and_not_by_their_details():
    stream = io.StringIO()
    progress = Progress(stream)
    for rate in range(5):
        progress.running("deployment", f"uploading · {rate} MB/s · 5 s left", 0.5)
    progress.running("deployment", "copying", None)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert "uploading · 0 MB/s · 5 s left" in lines[0]
    assert "copying" in lines[1]


def test_a_reader_that_has_left_is_told_once_and_what_comes_after_goes_nowhere():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        progress = Progress(stream)
        with pytest.raises(OutputClosedError):
            progress.note("nobody reads this")
        progress.failed("deployment", "failed")
