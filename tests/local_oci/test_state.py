"""A cloud's directory: who may read it, what is told when it is damaged or its disk is full."""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
import stat
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import oci
import pytest

from local_oci.home import DiskFullError, Home, StateError
from local_oci.runtime.artifact import ArtifactError, UnpackLimits, unpack
from local_oci.storage.database import Database
from tests.local_oci.support import IMAGE, LocalCloud, Sdk, run_cli, zipped

_SECRET = "hunter2-of-somebody-else"


# --- who may read it --------------------------------------------------------------------------


def test_all_of_a_clouds_directory_is_for_its_owner_alone(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    umask = os.umask(0)
    try:
        assert run_cli("start", f"--directory={directory}").returncode == 0
        assert run_cli("session", f"--directory={directory}").returncode == 0
    finally:
        os.umask(umask)
        run_cli("stop", f"--directory={directory}")
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in directory.rglob("*")}
    assert {"log", "state.sqlite3", "local-token", "lock", "port"} <= {p.name for p in modes}
    readable = {str(path): oct(mode) for path, mode in modes.items() if mode & 0o077}
    assert not readable


def test_an_older_clouds_directory_is_closed_to_others(tmp_path: Path) -> None:
    home = Home(tmp_path / "d")
    home.prepare()
    home.log.write_text("old")
    home.log.chmod(0o644)
    home.outputs.chmod(0o755)
    home.prepare()
    assert stat.S_IMODE(home.log.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.outputs.stat().st_mode) == 0o700


def test_a_server_in_the_background_has_nobodys_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", _SECRET)
    monkeypatch.setenv("HF_TOKEN", _SECRET)
    directory = tmp_path / "d"
    assert run_cli("start", f"--directory={directory}").returncode == 0
    try:
        process = int((directory / "lock").read_text())
        environment = Path(f"/proc/{process}/environ").read_bytes()
    finally:
        run_cli("stop", f"--directory={directory}")
    assert b"PATH=" in environment
    assert _SECRET.encode() not in environment


# --- damaged state ----------------------------------------------------------------------------


def _refused(directory: Path) -> str:
    result = run_cli("serve", f"--directory={directory}")
    assert result.returncode == 1, result
    assert "Traceback" not in result.stderr
    return result.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory, image: Path) -> Path:
    """The directory of a cloud that ran; nobody changes it."""
    directory = tmp_path_factory.mktemp("complete") / "d"
    named = f"--image={IMAGE}={image}"
    assert run_cli("start", f"--directory={directory}", named).returncode == 0
    assert run_cli("stop", f"--directory={directory}").returncode == 0
    return directory


@pytest.fixture
def stopped(tmp_path: Path, complete: Path) -> Path:
    """The directory of a cloud that ran."""
    shutil.copytree(complete, tmp_path / "d")
    return tmp_path / "d"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("state.sqlite3", b"this is no database"),
        ("config", b"\xff\xfe"),
        ("config", b"[DEFAULT]\nuser=x\n"),
        ("api_key.pem", b"none"),
        ("images.json", b"{"),
        ("images.json", b"[1]"),
    ],
    ids=range(6),
)
def test_a_damaged_file_is_named_with_its_remedy(stopped: Path, name: str, content: bytes) -> None:
    (stopped / name).write_bytes(content)
    text = _refused(stopped)
    assert f"{stopped / name} is damaged" in text
    assert "start" in text


def test_a_damaged_record_is_named_with_its_remedy(stopped: Path) -> None:
    with sqlite3.connect(stopped / "state.sqlite3") as database:
        database.execute("INSERT INTO records VALUES ('model_deployment', 'x', '{')")
    assert f"{stopped / 'state.sqlite3'} is damaged" in _refused(stopped)


def test_a_damaged_port_is_no_hindrance(stopped: Path) -> None:
    (stopped / "port").write_bytes(b"\xff" * 5000)
    assert run_cli("start", f"--directory={stopped}").returncode == 0
    assert run_cli("stop", f"--directory={stopped}").returncode == 0


def test_a_content_that_is_gone_is_told(new_cloud: Callable[..., LocalCloud]) -> None:
    cloud = new_cloud()
    sdk = Sdk(cloud)
    model = sdk.model()
    for blob in (cloud.directory / "blobs").iterdir():
        blob.unlink()
    with pytest.raises(oci.exceptions.ServiceError, match="is missing"):
        sdk.data_science.get_model_artifact_content(model)


# --- a full disk ------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on a disk of 8 MB."""
    directory = tmp_path / "small"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(directory)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("only root can mount a small disk")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)


def test_a_full_disk_is_one_sentence_at_once_also_for_a_client_that_retries(
    small_disk: Path,
) -> None:
    cloud = LocalCloud(small_disk / "d").start()
    try:
        sdk = Sdk(cloud)
        retrying = sdk.client(
            oci.object_storage.ObjectStorageClient, retry_strategy=oci.retry.DEFAULT_RETRY_STRATEGY
        )
        bucket = oci.object_storage.models.CreateBucketDetails(
            name="b", compartment_id=sdk.compartment
        )
        retrying.create_bucket("localoci", bucket)
        with pytest.raises(oci.exceptions.ServiceError) as refused:
            retrying.put_object("localoci", "b", "large", bytes(30_000_000))
        assert (refused.value.status, refused.value.code) == (400, "InsufficientStorage")
        assert "free some space" in refused.value.message
        (cloud.directory / "filler").write_bytes(bytes(_free(small_disk)))
        with pytest.raises(oci.exceptions.ServiceError) as refused:
            for _ in range(2000):
                sdk.project()
        assert refused.value.code == "InsufficientStorage"
        (cloud.directory / "filler").unlink()
        sdk.project()  # and all goes on
        assert not list((cloud.directory / "uploads").iterdir())
    finally:
        cloud.stop()


def _free(disk: Path) -> int:
    status = os.statvfs(disk)
    return status.f_bavail * status.f_bsize


def test_a_cloud_on_a_full_disk_says_so_at_the_start(small_disk: Path) -> None:
    (small_disk / "d").mkdir()
    (small_disk / "filler").write_bytes(bytes(_free(small_disk)))
    text = _refused(small_disk / "d")
    assert "full" in text or "No space left" in text


def test_a_change_that_finds_no_space_leaves_the_database_usable(small_disk: Path) -> None:
    database = Database(small_disk / "state.sqlite3")
    insert = "INSERT INTO log_entries (log_id, time, document) VALUES ('l', 0, ?)"
    with pytest.raises(DiskFullError, match="free some space"), database.transaction():
        for _ in range(100):
            database.execute(insert, "x" * 1_000_000)
    with database.transaction():
        database.execute(insert, "small")
    (count,) = database.execute("SELECT COUNT(*) FROM log_entries").fetchone()
    assert count == 1


def test_a_database_that_is_none_is_a_state_error(tmp_path: Path) -> None:
    (tmp_path / "state.sqlite3").write_bytes(b"x" * 5000)
    with pytest.raises(StateError, match="is damaged"):
        Database(tmp_path / "state.sqlite3")


# --- artifacts --------------------------------------------------------------------------------


def _unpack(tmp_path: Path, content: bytes, limits: UnpackLimits) -> str:
    archive = tmp_path / "a.zip"
    archive.write_bytes(content)
    with pytest.raises(ArtifactError) as refused:
        unpack(archive, tmp_path / "model", limits)
    assert not (tmp_path / "model").exists()
    return str(refused.value)


def _deflated(size: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("zeros", bytes(size))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (_deflated(10_001), "at most 10000"),
        (zipped({f"f{n}": b"" for n in range(11)}), "11 members, at most 10"),
        (zipped({f"f{n}": b"" for n in range(200)}), "lists its members in"),
        (zipped({"a": b"", "a/b": b""}), "cannot be unpacked"),
        (zipped({"n" * 300: b""}), "name too long"),
        (zipped({"a": b"x"})[:-10], "not a valid zip"),
        (b"", "not a valid zip"),
        (b"PK\x05\x06" + b"\xff" * 18, ""),
    ],
    ids=range(8),
)
def test_an_artifact_that_cannot_be_unpacked_leaves_nothing(
    tmp_path: Path, content: bytes, words: str
) -> None:
    assert words.lower() in _unpack(tmp_path, content, UnpackLimits(files=10, size=10_000)).lower()


def test_an_artifact_that_is_compressed_by_other_means_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as package:
        package.writestr("zeros", bytes(1000))
    text = _unpack(tmp_path, buffer.getvalue(), UnpackLimits())
    assert "not deflated" in text
