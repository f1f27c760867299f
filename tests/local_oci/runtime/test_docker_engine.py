"""The Docker engine's errors, in one sentence each."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from local_oci.runtime import docker_engine
from local_oci.runtime.docker_engine import EngineError, connect


def test_an_engine_that_hangs_is_given_up_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert docker_engine._FIRST_ANSWER_SECONDS < 10
    monkeypatch.setattr(docker_engine, "_FIRST_ANSWER_SECONDS", 0.5)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "s"))
        mute.listen()
        with pytest.raises(EngineError, match="does not answer in time"):
            connect(f"unix://{tmp_path}/s")


def test_an_engine_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=f"no Docker engine answers at unix://{tmp_path}/none"):
        connect(f"unix://{tmp_path}/none")
