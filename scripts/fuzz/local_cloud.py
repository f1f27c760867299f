"""Malformed requests to a local cloud: signed and unsigned, to every route, in every part.

Whatever a client sends, the answer is no 5xx and comes soon, the cloud's log holds no traceback,
and nothing is done for a request whose signature or token is wrong.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hypothesis.strategies import SearchStrategy

from scripts.fuzz import cloud_requests
from scripts.fuzz.cloud_client import ANSWER_S, Answer, Cloud, Request
from scripts.fuzz.exploring import Outcome, explore, total

_ROOT = Path(__file__).parents[2]
_START_S = 30.0
_NOT_EMULATED = 501
# At the beginning of a line, where no path that a client names can stand.
_TRACEBACK = re.compile(r"^Traceback \(most recent call last\)", re.MULTILINE)


def run(seed: int, examples: int) -> Outcome:
    """Gives a cloud of its own each kind of request."""
    directory = Path(tempfile.mkdtemp(prefix="fuzz-cloud-"))
    try:
        with _serving(directory) as log:
            return against(directory / "cloud", log, seed, examples)
    finally:
        shutil.rmtree(directory)


@contextlib.contextmanager
def _serving(directory: Path) -> Iterator[Path]:
    log = directory / "log"
    arguments = ("serve", f"--directory={directory / 'cloud'}", "--isolation=plain")
    with log.open("wb") as output:
        cloud = subprocess.Popen(
            [sys.executable, "-m", "local_oci", *arguments], cwd=_ROOT, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + _START_S
        while not (directory / "cloud" / "endpoint").exists() or "serving" not in log.read_text():
            if cloud.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the local cloud did not start: {log.read_text()}")
            time.sleep(0.05)
        yield log
    finally:
        cloud.terminate()
        cloud.wait(_START_S)


def against(directory: Path, log: Path, seed: int, examples: int) -> Outcome:
    """Gives a running cloud each kind of request.

    Args:
        directory: the cloud's directory.
        log: the file that its log goes to.
        seed: decides the requests.
        examples: how many of each kind.
    """
    cloud = Cloud(directory, log)
    _furnish(cloud)

    def check(request: Request) -> None:
        _check(cloud, request)

    def check_refused(request: Request) -> None:
        _check_refused(cloud, request)

    surfaces: dict[str, tuple[SearchStrategy[Request], Callable[[Request], None]]] = {
        "local cloud: signed requests": (cloud_requests.requests(cloud), check),
        "local cloud: bodies": (cloud_requests.bodies(cloud), check),
        "local cloud: request lines and headers": (cloud_requests.heads(cloud), check),
        "local cloud: signatures": (
            cloud_requests.forged(cloud),
            check_refused,
        ),
        "local cloud: its own routes": (
            cloud_requests.local(cloud),
            check_refused,
        ),
    }
    return total(
        *(explore(name, inputs, test, seed, examples) for name, (inputs, test) in surfaces.items())
    )


def _furnish(cloud: Cloud) -> None:
    """Makes one of each resource, so that requests reach further than a 404."""
    here = {"compartmentId": cloud.tenancy}
    with contextlib.suppress(AssertionError):  # an earlier run against this cloud made it
        cloud.create("/n/localoci/b", {**here, "name": "fuzz"})
    names = cloud.identifiers
    project = names["project_id"] = cloud.create("/20190101/projects", here)["id"]
    item = {"key": "k", "value": "v", "category": "Other"}
    model = {**here, "projectId": project, "customMetadataList": [item]}
    names["model_id"] = cloud.create("/20190101/models", model)["id"]
    version_set = {**here, "projectId": project, "name": f"set-{time.time_ns()}"}
    names["version_set_id"] = cloud.create("/20190101/modelVersionSets", version_set)["id"]
    names["key"] = "k"
    upload = {"object": "an/object"}
    names["object"] = "an/object"
    names["upload"] = cloud.create("/n/localoci/b/fuzz/u", upload)["uploadId"]
    cloud.send(Request(b"PUT", b"/n/localoci/b/fuzz/o/an/object", body=b"0123456789"))


# --- what is right ----------------------------------------------------------------------------


def _check(cloud: Cloud, request: Request) -> Answer | None:
    """Sends a request and looks at the answer and the log.

    Raises:
        AssertionError: the cloud failed, for whatever a client did.
    """
    try:
        answer = cloud.send(request)
    except TimeoutError:
        raise AssertionError(f"no answer within {ANSWER_S:g} s") from None
    log = cloud.new_log()
    assert not _TRACEBACK.search(log), log[-2000:]
    if answer is not None:
        fine = answer.status < 500 or answer.status == _NOT_EMULATED
        assert fine, f"{answer.status}: {answer.body[:300]!r}"
    return answer


def _check_refused(cloud: Cloud, request: Request) -> None:
    """As `_check`; the request must not be answered as if it were the user's."""
    answer = _check(cloud, request)
    assert answer is None or answer.status >= 400, f"{answer.status} without any right"
