"""The directory of a contract check: gone afterwards, also when the check was killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from local_oci.contract_check.leftovers import check_directory
from tests.local_oci.support import REPOSITORY

CHECK_FOR_EVER = """
import sys
from local_oci.contract_check.leftovers import check_directory
with check_directory() as directory:
    (directory / "model").mkdir()
    (directory / "model" / "file").write_text("of an artifact")
    (directory / "model").chmod(0o500)
    print(directory, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the standard library takes for /tmp, here and in children."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def test_it_is_removed_with_what_is_read_only_in_it(temporary: Path) -> None:
    with check_directory() as directory:
        (directory / "model").mkdir()
        (directory / "model" / "file").touch()
        (directory / "model").chmod(0o500)
    assert not list(temporary.iterdir())


def test_that_of_a_running_check_stays_and_that_of_a_killed_one_is_removed(temporary: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHECK_FOR_EVER],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout
        theirs = Path(other.stdout.readline().strip())
        assert theirs.parent == temporary
        with check_directory():
            assert (theirs / "model" / "file").exists()
        other.kill()
    assert theirs.exists()
    with check_directory():
        assert not theirs.exists()


def test_what_only_has_such_a_name_is_let_be(temporary: Path) -> None:
    mine = temporary / "mine"
    mine.mkdir()
    (mine / "lock").touch()
    mine.chmod(0o500)
    (temporary / "local_oci-check-link").symlink_to(mine)
    (temporary / "local_oci-check-new").mkdir()
    (temporary / "local_oci-check-file").touch()
    with check_directory():
        pass
    assert {path.name for path in temporary.iterdir()} == {
        "mine",
        *(f"local_oci-check-{name}" for name in ("link", "new", "file")),
    }
    assert mine.stat().st_mode & 0o777 == 0o500
