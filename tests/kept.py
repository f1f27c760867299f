"""What is costly to make and the same for every test run, kept in the checkout between runs.

Each thing is a directory, `build/test-cache/<name>/<digest>`. Nobody writes into it after it is
made: another run may be using it.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path

from falconry.files import remove

ROOT = Path(__file__).parents[1] / "build" / "test-cache"


def kept(
    name: str,
    digest: str,
    make: Callable[[Path], None],
    works: Callable[[Path], bool] = lambda _: True,
    root: Path = ROOT,
) -> Path:
    """Give the directory that is kept under a digest; make it if no run has yet.

    Of several runs at once, one makes it and the others wait. Making it removes what killed runs
    left, and the directories of this name under other digests.

    Args:
        name: what it is, as a directory name.
        digest: of everything that decides what is made.
        make: fills an empty directory, which is renamed afterwards. If it raises, nothing is kept.
        works: whether a kept directory is undamaged; one that is not is made again.
        root: where things are kept.
    """
    shelf = root / name
    shelf.mkdir(parents=True, exist_ok=True)
    place, unfinished = shelf / digest, shelf / ".making"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if place.is_dir() and works(place):
            return place
        for old in shelf.iterdir():
            remove(old)
        unfinished.mkdir()
        try:
            make(unfinished)
            unfinished.rename(place)
        finally:
            remove(unfinished)
    return place
