"""The artifact's bytes against other programs' zips: Python's zipfile, unzip and Java."""

import io
import os
import random
import shutil
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from falconry.artifact import zip_layout as layout
from falconry.artifact.view import ArtifactView
from falconry.errors import RepositoryError
from tests.falconry.artifact.conftest import FILES, silent

JAVA = """
import java.io.*; import java.util.*; import java.util.zip.*;
public class Read {
    static void tell(String name, InputStream in) throws IOException {
        CRC32 crc = new CRC32(); byte[] buffer = new byte[65536]; long size = 0; int count;
        while ((count = in.read(buffer)) > 0) { crc.update(buffer, 0, count); size += count; }
        System.out.println(name + " " + size + " " + crc.getValue());
    }
    public static void main(String[] arguments) throws IOException {
        try (ZipInputStream in = new ZipInputStream(new FileInputStream(arguments[0]))) {
            for (ZipEntry entry; (entry = in.getNextEntry()) != null; ) tell(entry.getName(), in);
        }
        try (ZipFile file = new ZipFile(arguments[0])) {
            for (ZipEntry entry : Collections.list(file.entries()))
                tell(entry.getName(), file.getInputStream(entry));
        }
    }
}
"""


@pytest.fixture
def small_zip64(monkeypatch):
    """Zip64 from a size on that a test can have, in our zips and in zipfile's."""
    limit = 100_000
    monkeypatch.setattr(layout, "_ZIP64_FROM_BYTES", limit)
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", limit - 1)


def whole(view):
    return view.read(0, view.size)


def written_by_zipfile(files):
    """What Python's zipfile makes of the same files, told the same times and modes."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as package:
        for name in sorted(files):
            entry = zipfile.ZipInfo(f"model_repository/{name}", (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3
            package.writestr(entry, files[name])
    return archive.getvalue()


def test_the_artifact_is_the_zip_that_zipfile_makes(repository, open_view):
    assert whole(open_view(repository)) == written_by_zipfile(FILES)


def test_zip64_is_the_zip_that_zipfile_makes(repository, open_view, small_zip64):
    made = whole(open_view(repository))
    assert b"PK\6\6" in made
    assert made == written_by_zipfile(FILES)


def test_zipfile_reads_every_file(repository, open_view):
    with zipfile.ZipFile(io.BytesIO(whole(open_view(repository)))) as archive:
        assert archive.testzip() is None
        read = {name: archive.read(name) for name in archive.namelist()}
    assert read == {f"model_repository/{name}": content for name, content in FILES.items()}
    assert list(read) == sorted(read)


def test_no_entry_has_a_data_descriptor_and_all_are_stored(repository, open_view):
    with zipfile.ZipFile(io.BytesIO(whole(open_view(repository)))) as archive:
        entries = archive.infolist()
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert not any(entry.flag_bits & 8 for entry in entries)


@pytest.mark.skipif(not shutil.which("unzip"), reason="unzip is not installed")
@pytest.mark.parametrize("zip64", [False, True])
def test_unzip_accepts_the_artifact(repository, open_view, tmp_path, zip64, request):
    if zip64:
        request.getfixturevalue("small_zip64")
    open_view(repository).write(tmp_path / "artifact.zip", silent)
    subprocess.run(["unzip", "-tq", tmp_path / "artifact.zip"], check=True)


@pytest.mark.skipif(not shutil.which("javac"), reason="there is no Java compiler")
@pytest.mark.parametrize("zip64", [False, True])
def test_java_reads_every_file_from_a_stream_and_from_a_file(
    repository, open_view, tmp_path, zip64, request
):
    if zip64:
        request.getfixturevalue("small_zip64")
    open_view(repository).write(tmp_path / "artifact.zip", silent)
    (tmp_path / "Read.java").write_text(JAVA)
    subprocess.run(["javac", "-d", tmp_path, tmp_path / "Read.java"], check=True)
    command = ["java", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-cp", tmp_path, "Read"]
    told = subprocess.run(
        [*command, tmp_path / "artifact.zip"], check=True, capture_output=True, encoding="utf-8"
    )
    with zipfile.ZipFile(tmp_path / "artifact.zip") as archive:
        expected = [f"{each.filename} {each.file_size} {each.CRC}" for each in archive.infolist()]
    lines = [line.encode() for line in told.stdout.splitlines()]
    # Where the locale has no umlauts, Java prints question marks.
    assert len(lines) == 2 * len(expected)
    assert [line.split()[1:] for line in lines] == [
        line.encode().split()[1:] for line in expected * 2
    ]


def test_any_range_is_that_of_the_whole(repository, open_view):
    view = open_view(repository)
    content, draw = whole(view), random.Random(1)
    for _ in range(500):
        start = draw.randrange(view.size)
        count = draw.choice([0, 1, 30, 100, draw.randrange(view.size)])
        count = min(count, view.size - start)
        assert view.read(start, count) == content[start : start + count]


def test_several_threads_read_at_once(repository, open_view):
    view = open_view(repository)
    content = whole(view)
    ranges = [(start, min(997, view.size - start)) for start in range(0, view.size, 997)]
    with ThreadPoolExecutor(4) as pool:
        pieces = pool.map(lambda each: view.read(*each), ranges)
    assert b"".join(pieces) == content


@pytest.mark.parametrize(("offset", "count"), [(-1, 1), (0, 10**9)])
def test_a_range_outside_the_zip_is_refused(repository, open_view, offset, count):
    with pytest.raises(ValueError, match="are not within"):
        open_view(repository).read(offset, count)


def test_the_same_files_are_the_same_artifact(repository, open_view, tmp_path):
    first = open_view(repository)
    content = whole(first)
    copy = shutil.copytree(repository, tmp_path / "elsewhere" / "copy")
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    second = open_view(copy)
    assert (second.digest, whole(second)) == (first.digest, content)


@pytest.mark.parametrize("change", ["content", "name"])
def test_other_files_are_another_artifact(make_repository, open_view, change):
    other = dict(FILES)
    content = other.pop("a/config.pbtxt")
    other["a/config.pbtxt" if change == "content" else "a/config.txt"] = (
        content.swapcase() if change == "content" else content
    )
    first, second = open_view(make_repository()), open_view(make_repository(other, "other"))
    assert first.digest != second.digest


def test_an_empty_repository_is_an_empty_zip(make_repository, open_view, tmp_path):
    (tmp_path / "repository").mkdir()
    with zipfile.ZipFile(io.BytesIO(whole(open_view(tmp_path / "repository")))) as archive:
        assert archive.namelist() == []


# --- files that change ------------------------------------------------------------------------


def write_again(path):
    path.write_bytes(path.read_bytes())


def make_longer(path):
    with path.open("ab") as stream:
        stream.write(b"x")


def make_shorter(path):
    os.truncate(path, 10)


def replace(path):
    stat, other = path.stat(), path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [write_again, make_longer, make_shorter, replace, os.unlink])
def test_a_file_that_changes_is_noticed_by_the_next_reading(repository, open_view, change):
    view = open_view(repository)
    change(repository / "a/1/weights.bin")
    with pytest.raises(RepositoryError, match=r"a/1/weights\.bin: changed while it was being pack"):
        whole(view)


def test_a_file_that_changes_during_a_reading_is_noticed(repository, open_view, monkeypatch):
    view, read = open_view(repository), os.preadv

    def read_and_write(descriptor, buffers, offset):
        count = read(descriptor, buffers, offset)
        make_longer(repository / "b/1/model.py")
        return count

    monkeypatch.setattr(os, "preadv", read_and_write)
    with pytest.raises(RepositoryError, match=r"b/1/model\.py: changed"):
        whole(view)


def test_a_view_of_other_files_is_not_opened(repository, make_repository, tmp_path):
    from falconry.artifact.contents import describe
    from falconry.digests import DigestCache

    digests = DigestCache(tmp_path / "d.json")
    contents = describe(repository, digests, silent)
    for change in (
        lambda: (repository / "new").write_bytes(b""),
        lambda: (repository / "new").replace(repository / "a/config.pbtxt"),
        lambda: (repository / "a/config.pbtxt").unlink(),
    ):
        change()
        with pytest.raises(RepositoryError, match="changed while it was being packed"):
            ArtifactView.open(repository, contents, digests)


def test_a_file_that_cannot_be_written_leaves_nothing(repository, open_view, tmp_path):
    view = open_view(repository)
    (tmp_path / "out").mkdir()
    make_longer(repository / "b/1/model.py")
    with pytest.raises(RepositoryError):
        view.write(tmp_path / "out" / "artifact.zip", silent)
    assert list((tmp_path / "out").iterdir()) == []
