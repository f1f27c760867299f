import io
import os
import zipfile

import pytest

from falconry.artifact.contents import Contents
from falconry.artifact.stage import ArtifactStage
from falconry.digests import DigestCache, bytes_digest
from falconry.errors import RepositoryError
from falconry.pipeline import Output, Step, Workspace, run_stages
from falconry.progress import Progress


@pytest.fixture
def run(repository, tmp_path):
    """Brings the artifact of a repository up to date."""

    def run_(digest="sha256:1"):
        workspace = Workspace.open(tmp_path / "build" / "local", Progress(io.StringIO()))
        given = Output(repository, digest, "")
        return run_stages([Step("artifact", lambda _: ArtifactStage(given, workspace))], workspace)

    return run_


def test_no_zip_is_written(run, tmp_path):
    output = run()
    assert [path.suffix for path in (tmp_path / "build/local/artifact").iterdir()] == [".json"]
    view = output.view()
    with zipfile.ZipFile(io.BytesIO(view.read(0, view.size))) as archive:
        assert archive.testzip() is None


def test_the_artifacts_digest_is_that_of_the_list_of_its_files(run):
    output = run()
    assert output.digest == bytes_digest(output.path.read_bytes()) == output.view().digest


def test_an_artifact_is_up_to_date_without_reading_a_file(run, monkeypatch):
    first = run()
    monkeypatch.setattr(DigestCache, "crc32", None)
    assert run() == first


def test_a_changed_file_has_its_new_checksum(run, repository):
    run()
    (repository / "a/config.pbtxt").write_bytes(b"new")
    view = run("sha256:2").view()
    with zipfile.ZipFile(io.BytesIO(view.read(0, view.size))) as archive:
        assert archive.testzip() is None


def test_a_file_that_changes_while_it_is_described_is_told(run, repository, monkeypatch):
    compute = DigestCache.crc32

    def with_a_change(cache, path, report):
        found = compute(cache, path, report)
        (repository / "a/config.pbtxt").write_bytes(b"new")
        return found

    monkeypatch.setattr(DigestCache, "crc32", with_a_change)
    with pytest.raises(RepositoryError, match=r"a/config\.pbtxt: changed while"):
        run()


def test_a_damaged_list_is_made_again(run):
    output = run()
    whole = output.path.read_bytes()
    output.path.write_bytes(b"damaged")
    os.utime(output.path)
    assert run().path.read_bytes() == whole
    assert Contents.read(output.path).encoded() == whole
