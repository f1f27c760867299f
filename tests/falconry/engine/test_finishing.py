"""Files of an engine that are flushed and hashed while it is being built."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from falconry.digests import DigestCache
from falconry.engine.store import FileFinalizer

CONTENTS = {"weights.bin": b"falcon" * 500_000, "model.xml": b"<net/>", "engine.json": b"{}"}


def test_each_file_is_described_whether_it_was_announced_or_not(tmp_path: Path) -> None:
    engine = tmp_path / "engine"
    engine.mkdir()
    with FileFinalizer(engine, DigestCache(tmp_path / "digests.json")) as finished:
        for name, content in CONTENTS.items():
            (engine / name).write_bytes(content)
            if name == "weights.bin":
                finished.add(engine / name)
        described = finished.describe()

    assert {name: (file.size, file.sha256) for name, file in described.items()} == {
        name: (len(content), f"sha256:{hashlib.sha256(content).hexdigest()}")
        for name, content in CONTENTS.items()
    }


def test_a_file_that_cannot_be_flushed_is_an_error(tmp_path: Path) -> None:
    with FileFinalizer(tmp_path, DigestCache(tmp_path / "digests.json")) as finished:
        finished.add(tmp_path / "gone")
        with pytest.raises(FileNotFoundError):
            finished.describe()
