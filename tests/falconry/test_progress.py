import io

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
