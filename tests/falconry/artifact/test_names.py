import os

import pytest

from falconry.artifact.contents import packed_names
from falconry.errors import RepositoryError


def test_names_are_sorted_and_bytecode_is_left_out(make_repository):
    repository = make_repository({"b/x": b"", "b.y": b"", "a/__pycache__/z.pyc": b"", "a/m": b""})
    assert packed_names(repository) == ("a/m", "b.y", "b/x")


def test_names_that_differ_in_case_only_are_two_files(make_repository):
    assert packed_names(make_repository({"Falcon/m": b"", "falcon/m": b""})) == (
        "Falcon/m",
        "falcon/m",
    )


def test_a_link_within_the_repository_is_the_file_that_it_leads_to(repository, open_view):
    (repository / "a" / "link").symlink_to("../b/1/model.py")
    content = open_view(repository)
    assert b"model_repository/a/link" in content.read(0, content.size)
    assert content.read(0, content.size).count(b"b/1/model.py" * 1000) == 2


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/etc/hostname", "leads out of the repository"),
        ("../../outside", "leads out of the repository"),
        ("nothing", "leads nowhere"),
        ("../b", "leads to what is not a file|to what is not a file"),
    ],
)
def test_other_links_are_refused(repository, target, words):
    (repository.parent / "outside").write_bytes(b"")
    (repository / "a" / "link").symlink_to(target)
    with pytest.raises(RepositoryError, match=f"a/link: is a symbolic link.*({words})"):
        packed_names(repository)


def test_a_link_that_leads_out_by_another_link_is_refused(repository):
    (repository / "a" / "out").symlink_to("/etc/hostname")
    (repository / "a" / "link").symlink_to("out")
    with pytest.raises(RepositoryError, match="leads out of the repository"):
        packed_names(repository)


def test_a_pipe_is_refused(repository):
    os.mkfifo(repository / "pipe")
    with pytest.raises(RepositoryError, match="pipe: is neither a file nor a directory"):
        packed_names(repository)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (b"a\\b", "a backslash"),
        (b"a\nb", "a control character"),
        (b"a\x7fb", "a control character"),
        ("a\x85b".encode(), "a control character"),
        (b"a\xff", "is not UTF-8"),
    ],
)
def test_a_name_that_no_zip_should_hold_is_refused(repository, name, words):
    (repository / os.fsdecode(name)).write_bytes(b"")
    with pytest.raises(RepositoryError, match=words) as refusal:
        packed_names(repository)
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).isprintable()


def test_a_name_too_long_for_a_zip_is_refused(tmp_path, monkeypatch):
    # Longer than the kernel takes in one path, so it is made and walked in steps.
    from falconry.artifact import contents as names

    monkeypatch.setattr(names, "MAX_NAME_BYTES", 100)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / ("x" * 90)).write_bytes(b"")
    with pytest.raises(RepositoryError, match="has more than 100 bytes"):
        packed_names(tmp_path)
