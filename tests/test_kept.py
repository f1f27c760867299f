"""What is kept between test runs is made once, whole, and again where it is damaged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kept import kept

CHECKOUT = Path(__file__).parents[1]


class Maker:
    """Makes a directory with one file, slowly enough to be interrupted."""

    def __init__(self, content: str = "whole", seconds: float = 0.0) -> None:
        self.content = content
        self.seconds = seconds
        self.times = 0

    def __call__(self, place: Path) -> None:
        self.times += 1
        (place / "content").write_text("half")
        time.sleep(self.seconds)
        (place / "content").write_text(self.content)


@pytest.fixture
def keep(tmp_path: Path) -> Callable[..., Path]:
    """`kept` in a directory of the test's own."""

    def keep(digest: str, make: Callable[[Path], None], **options: Callable[[Path], bool]) -> Path:
        return kept("thing", digest, make, root=tmp_path, **options)

    return keep


def test_it_is_made_once(keep: Callable[..., Path]) -> None:
    make = Maker()
    places = [keep("one", make) for _ in range(2)]
    assert make.times == 1
    assert places[0] == places[1]
    assert (places[0] / "content").read_text() == "whole"


def test_another_digest_takes_its_place(keep: Callable[..., Path]) -> None:
    old = keep("one", Maker("first"))
    new = keep("two", Maker("second"))
    assert (new / "content").read_text() == "second"
    assert not old.exists()


def test_runs_at_once_make_it_once(keep: Callable[..., Path]) -> None:
    make = Maker(seconds=0.2)
    read = []
    runs = [
        threading.Thread(target=lambda: read.append((keep("one", make) / "content").read_text()))
        for _ in range(4)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert make.times == 1
    assert read == ["whole"] * 4


def test_one_that_cannot_be_made_is_not_kept(keep: Callable[..., Path], tmp_path: Path) -> None:
    def fail(place: Path) -> None:
        (place / "content").write_text("half")
        raise ConnectionError

    with pytest.raises(ConnectionError):
        keep("one", fail)
    assert list((tmp_path / "thing").iterdir()) == []
    assert (keep("one", Maker()) / "content").read_text() == "whole"


def test_a_damaged_one_is_made_again(keep: Callable[..., Path]) -> None:
    def works(place: Path) -> bool:
        return (place / "content").read_text() == "whole"

    place = keep("one", Maker("broken"))
    make = Maker()
    assert keep("one", make, works=works) == place
    assert (place / "content").read_text() == "whole"
    assert keep("one", make, works=works) == place
    assert make.times == 1


def test_what_a_killed_run_began_is_made_again(keep: Callable[..., Path], tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from tests.kept import kept; from tests.test_kept import Maker\n"
        f"kept('thing', 'one', Maker(seconds=60), root=Path({os.fspath(tmp_path)!r}))"
    )
    run = subprocess.Popen([sys.executable, "-c", program], cwd=CHECKOUT)
    try:
        begun = tmp_path / "thing" / ".making" / "content"
        deadline = time.monotonic() + 30
        while not begun.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
    place = keep("one", Maker())
    assert (place / "content").read_text() == "whole"
    assert list((tmp_path / "thing").iterdir()) == [place]
