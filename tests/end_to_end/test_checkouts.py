"""A copied checkout, whose .venv is another one's, runs its own code."""

import pytest

from tests.end_to_end.conftest import Clone


def rewrite(path, before, after):
    text = path.read_text()
    assert text.count(before) == 1, path
    path.write_text(text.replace(before, after))


@pytest.fixture
def copy(tmp_path):
    """A checkout with words of its own in falconry and local_oci."""
    copy = Clone.make(tmp_path / "copy")
    rewrite(
        copy.directory / "falconry" / "settings.py",
        'f"there is no profile ',
        'f"the copy has no profile ',
    )
    rewrite(
        copy.directory / "local_oci" / "cli.py",
        "    options = _parser().parse_args(arguments)\n",
        '    raise SystemExit("the copy stops nothing")\n',
    )
    return copy


def test_make_runs_the_code_of_its_directory(copy):
    assert copy.fails("plan", "PROFILE=nowhere").startswith("✘ the copy has no profile 'nowhere'")


def test_the_local_cloud_is_that_of_its_directory(copy):
    assert "the copy stops nothing" in copy.fails("down")
