"""A copy of the project to run make in, as a user would, with the set-up that is there already."""

import pytest

from scripts.torture.checkout import Clone, kill

__all__ = ["Clone", "clone", "kill"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone that is taken down at the end, whatever happens.

    Its path needs quotes in a shell, and is no ASCII.
    """
    clone = Clone.make(tmp_path_factory.mktemp("project") / "Falken & Söhne's $HOME")
    try:
        yield clone
    finally:
        clone.run("down")
