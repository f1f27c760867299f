"""Repositories of the tests' own, and their artifacts."""

import pytest

from falconry.artifact.contents import describe
from falconry.artifact.view import ArtifactView
from falconry.digests import DigestCache

FILES = {
    "b/1/model.py": b"b/1/model.py" * 1000,
    "a/config.pbtxt": b'name: "a"\n',
    "a/1/weights.bin": bytes(range(256)) * 5000,
    "a/1/empty": b"",
    "ä/ü.txt": "grüße".encode(),
}


def silent(step, fraction):
    pass


@pytest.fixture
def make_repository(tmp_path):
    def make(files=FILES, name="repository"):
        root = tmp_path / name
        for path, content in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
        return root

    return make


@pytest.fixture
def repository(make_repository):
    return make_repository()


@pytest.fixture
def open_view(tmp_path):
    """The view of a repository."""

    def open_(repository):
        digests = DigestCache(tmp_path / "digests.json")
        contents = describe(repository, digests, silent)
        return ArtifactView.open(repository, contents, digests)

    return open_
