"""How long a cloud waits by default is what Oracle and Docker document; most tests wait less.

The sources are those of `local_oci/limits.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from local_oci.cli import main
from local_oci.contract_check import check as check_module
from local_oci.contract_check.report import CheckRequest, Report

# tshoot-model-deploy-byoc.htm: a container must start within 10 minutes.
START_SECONDS = 600
# Docker's own grace period between SIGTERM and SIGKILL (docker stop, --time).
STOP_GRACE_SECONDS = 10


@pytest.mark.parametrize("given", [{}, {"start_timeout": 7, "stop_grace": 3}], ids=["none", "some"])
def test_a_cloud_gives_a_container_ten_minutes_to_start_and_ten_seconds_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, int]
) -> None:
    served: list[Any] = []
    monkeypatch.setattr("local_oci.serving.serve", served.append)
    words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    assert main(["serve", f"--directory={tmp_path}", *words]) == 0
    (options,) = served
    assert options.start_timeout == given.get("start_timeout", START_SECONDS)
    assert options.stop_grace == given.get("stop_grace", STOP_GRACE_SECONDS)


def test_a_cloud_in_the_background_waits_as_long_as_one_in_the_foreground(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr("local_oci.cli.start", lambda home, words: started.append(words) or "")
    assert main(["start", f"--directory={tmp_path}"]) == 0
    assert {f"--start-timeout={START_SECONDS:.1f}", f"--stop-grace={STOP_GRACE_SECONDS}"} <= set(
        started[0]
    )


def test_check_image_waits_as_long_as_a_cloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[CheckRequest] = []

    async def checked(request: CheckRequest, *_: object) -> Report:
        requests.append(request)
        return Report(request.image, [], ())

    monkeypatch.setattr(check_module, "check", checked)
    assert main(["check-image", "--image=any:1", f"--artifact={tmp_path}"]) == 0
    (request,) = requests
    assert (request.timeout, request.stop_grace) == (START_SECONDS, STOP_GRACE_SECONDS)


def test_a_longer_grace_than_stop_waits_for_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["serve", f"--directory={tmp_path}", f"--stop-grace={STOP_GRACE_SECONDS + 1}"])
    assert "--stop-grace" in capsys.readouterr().err
