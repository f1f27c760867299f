import os
import shutil
import subprocess
import zipfile

import pytest

from falconry.artifact import write_artifact
from falconry.errors import RepositoryError


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "repository"
    for name in ("b/1/model.py", "a/config.pbtxt", "a/1/weights.bin"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode() * 1000)
    return root


def pack(repository, output):
    write_artifact(repository, output, lambda step, fraction: None)
    return output.read_bytes()


def test_the_same_repository_is_the_same_artifact(repository, tmp_path):
    first = pack(repository, tmp_path / "first.zip")
    for path in repository.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    copy = shutil.copytree(repository, tmp_path / "copy")
    assert pack(copy, tmp_path / "second.zip") == first


def test_the_repository_is_at_the_artifacts_root_and_whole(repository, tmp_path):
    pack(repository, tmp_path / "artifact.zip")
    with zipfile.ZipFile(tmp_path / "artifact.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [
            "model_repository/a/1/weights.bin",
            "model_repository/a/config.pbtxt",
            "model_repository/b/1/model.py",
        ]
        assert archive.read("model_repository/b/1/model.py") == b"b/1/model.py" * 1000
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


@pytest.mark.skipif(not shutil.which("unzip"), reason="unzip is not installed")
def test_unzip_accepts_the_artifact(repository, tmp_path):
    pack(repository, tmp_path / "artifact.zip")
    subprocess.run(["unzip", "-tq", tmp_path / "artifact.zip"], check=True)


def test_a_symbolic_link_is_refused(repository, tmp_path):
    (repository / "a" / "link").symlink_to("/etc/hostname")
    with pytest.raises(RepositoryError, match=r"a/link: is a symbolic link"):
        pack(repository, tmp_path / "artifact.zip")
