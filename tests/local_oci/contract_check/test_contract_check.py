"""`check-image`: an image that keeps the contract passes, each way to break it is named."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local_oci.cli import main
from local_oci.contract_check.trial import ListeningSocket, parse
from tests.docker_engine import DockerEngine
from tests.docker_registry import Registry
from tests.docker_relay import stopping_at
from tests.local_oci.container_images import container_image
from tests.local_oci.support import REPOSITORY, wait_until, zipped

Check = Callable[..., dict[str, Any]]
PROGRAM = Path(__file__).with_name("misbehaving_server.py")
MODEL = "/opt/ds/model/deployed_model"
SERVE = 'ENTRYPOINT ["/usr/bin/python3", "-S", "/app/serve.py"]'
FILES = {"weights.txt": b"none\n", "more/table.bin": b"\0" * 100}
LABEL = "local_oci.check"
NOT_ROOT = "USER 4321"


@pytest.fixture(scope="module")
def client(publishing_docker_engine: DockerEngine) -> Iterator[Any]:
    with contextlib.closing(publishing_docker_engine.client()) as client:
        yield client


@pytest.fixture(scope="module")
def good(client: Any) -> Iterator[str]:
    """An image that keeps the contract unless its variables say otherwise; not root."""
    with container_image(client, "local-oci-test/good:1", PROGRAM, [SERVE, NOT_ROOT]) as image:
        yield image


@pytest.fixture(scope="module")
def rootful(client: Any) -> Iterator[str]:
    """The same, whose user is root."""
    with container_image(client, "local-oci-test/rootful:1", PROGRAM, [SERVE]) as image:
        yield image


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "model.zip"
    path.write_bytes(zipped(FILES))
    return path


@pytest.fixture
def check(
    publishing_docker_engine: DockerEngine,
    artifact: Path,
    client: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Check]:
    """Check an image with variables; gives the JSON report. Nothing may be left of it.

    In this process: a process of its own would load for a second.
    """
    volumes = {volume.name for volume in client.volumes.list()}
    monkeypatch.setenv("DOCKER_HOST", publishing_docker_engine.host)

    def run(image: str, *options: str, **variables: str) -> dict[str, Any]:
        words = ["check-image", f"--image={image}", f"--artifact={artifact}", "--json"]
        given = [f"--env={name}={value}" for name, value in variables.items()]
        capsys.readouterr()
        status = main([*words, "--timeout=3", *given, *options])
        report: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert status == (0 if report["passed"] else 1)
        return report

    yield run
    assert not client.containers.list(all=True, ignore_removed=True, filters={"label": LABEL})
    assert {volume.name for volume in client.volumes.list()} <= volumes


def _run(engine: DockerEngine, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local_oci", "check-image", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "DOCKER_HOST": engine.host},
        capture_output=True,
        text=True,
        timeout=120,
    )


def _violation(report: dict[str, Any]) -> tuple[str, str]:
    """Check and text of the one violation, which is the last finding."""
    *before, last = report["findings"]
    assert last["outcome"] == "violation"
    assert last["remedy"]
    assert "violation" not in {finding["outcome"] for finding in before}
    assert report["passed"] is False
    return last["check"], last["text"]


def _warnings(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (finding["check"], finding["text"])
        for finding in report["findings"]
        if finding["outcome"] == "warning"
    ]


# --- an image that keeps the contract ---------------------------------------------------------


def test_an_image_that_keeps_the_contract_passes(check: Check, good: str) -> None:
    report = check(good)
    assert report["passed"] is True
    assert {finding["outcome"] for finding in report["findings"]} == {"ok"}
    texts = {finding["check"]: finding["text"] for finding in report["findings"]}
    assert texts["user"] == "healthy as 4321, without capabilities"
    assert texts["ports in use"] == "8000"
    assert texts["stop"] == "after SIGTERM it exited with status 0"


def test_the_artifact_may_be_a_directory_with_links_and_private_files(
    check: Check, good: str, tmp_path: Path, artifact: Path
) -> None:
    directory = tmp_path / "model"
    directory.mkdir()
    (tmp_path / "cached").write_text("none\n")
    (tmp_path / "cached").chmod(0o600)
    (directory / "weights.txt").symlink_to("../cached")
    assert check(good, f"--artifact={directory}")["passed"] is True


def test_the_report_for_people_has_a_line_for_each_check(
    publishing_docker_engine: DockerEngine, good: str, artifact: Path
) -> None:
    outcome = _run(publishing_docker_engine, f"--image={good}", f"--artifact={artifact}")
    assert outcome.returncode == 0
    *lines, verdict = outcome.stdout.splitlines()
    assert {line.split()[0] for line in lines} == {"ok"}
    assert verdict == f"{good} keeps the contract."


def test_an_image_of_root_that_needs_no_root_passes_as_another_user(
    check: Check, rootful: str
) -> None:
    report = check(rootful)
    texts = {finding["check"]: finding["text"] for finding in report["findings"]}
    assert texts["user"] == "healthy as 65532:65532, without capabilities"


def test_an_image_that_the_engine_does_not_have_is_pulled(
    check: Check, client: Any, good: str, open_registry: Registry
) -> None:
    reference = f"{open_registry.host}/good:2"
    client.images.get(good).tag(reference)
    client.images.push(reference)
    client.images.remove(reference)
    try:
        assert check(reference)["passed"] is True
    finally:
        client.images.remove(reference, force=True)


# --- before it runs ---------------------------------------------------------------------------


def test_a_command_that_is_too_long_is_named(check: Check, good: str) -> None:
    report = check(good, "--cmd", "x" * 1000, "y" * 1000, "--entrypoint", "z" * 48)
    assert _violation(report) == (
        "command",
        "cmd and entrypoint: 2048 bytes together, must be less than 2048",
    )


def test_a_reserved_variable_is_named(check: Check, good: str) -> None:
    name, text = _violation(check(good, TENANCY_OCID="x"))
    assert (name, "'TENANCY_OCID' is reserved" in text) == ("environment", True)


@pytest.mark.parametrize("options", [["--port=80"], ["--health-port=8446"]])
def test_a_port_outside_the_rules_is_named(check: Check, good: str, options: list[str]) -> None:
    name, text = _violation(check(good, *options))
    assert name == "ports"
    assert options[0].partition("=")[2] in text


def test_an_image_that_is_not_there_is_named(check: Check) -> None:
    name, text = _violation(check("127.0.0.1:9/none:1"))
    assert name == "image"
    assert "127.0.0.1:9/none:1 cannot be pulled" in text


def test_an_image_for_another_platform_is_named(check: Check, client: Any) -> None:
    (image,) = client.images.load(_image_archive(architecture="arm64", cmd=["serve"]))
    try:
        assert _violation(check(image.id)) == ("image", "is for linux/arm64, not linux/amd64")
    finally:
        client.images.remove(image.id)


def test_an_image_with_nothing_to_run_is_named(check: Check, client: Any) -> None:
    (image,) = client.images.load(_image_archive(architecture="amd64", cmd=None))
    try:
        name, text = _violation(check(image.id))
    finally:
        client.images.remove(image.id)
    assert (name, text.startswith("the image has neither ENTRYPOINT nor CMD")) == ("program", True)


def test_an_image_without_curl_is_named(check: Check, client: Any) -> None:
    tag = "local-oci-test/no-curl:1"
    with container_image(client, tag, PROGRAM, [SERVE], curl=False) as image:
        name, text = _violation(check(image))
    assert name == "curl"
    assert "no curl" in text


def test_an_artifact_that_is_no_archive_is_named(check: Check, good: str, tmp_path: Path) -> None:
    (tmp_path / "broken.zip").write_text("no archive")
    name, text = _violation(check(good, f"--artifact={tmp_path}/broken.zip"))
    assert (name, "not a valid zip archive" in text) == ("artifact", True)


# --- when it runs -----------------------------------------------------------------------------


def test_writing_beside_the_model_is_named_with_the_file(check: Check, rootful: str) -> None:
    report = check(rootful, MUST_WRITE=f"{MODEL}/more/cache.bin")
    assert _violation(report) == ("artifact", f"wrote under {MODEL}: more/cache.bin")
    assert any("Read-only file system" in line for line in report["output"])


def test_changing_a_file_of_the_model_is_named(check: Check, good: str) -> None:
    report = check(good, MUST_WRITE=f"{MODEL}/weights.txt")
    assert _violation(report) == ("artifact", f"wrote under {MODEL}: weights.txt")


def test_writing_into_the_root_file_system_is_named_with_the_path(
    check: Check, client: Any
) -> None:
    instructions = [SERVE, "COPY --chown=4321 serve.py /var/cache/app/serve.py", NOT_ROOT]
    tag = "local-oci-test/writes:1"
    with container_image(client, tag, PROGRAM, instructions) as image:
        report = check(image, MUST_WRITE="/var/cache/app/serve.py")
    assert _violation(report) == ("file system", "wrote /var/cache/app/serve.py (docker diff)")


def test_writing_as_root_is_named_by_what_was_written(check: Check, rootful: str) -> None:
    report = check(rootful, MUST_WRITE="/app/cache")
    assert _violation(report) == ("file system", "wrote /app/cache (docker diff)")


def test_needing_root_is_named(check: Check, rootful: str) -> None:
    assert _violation(check(rootful, NEEDS_ROOT="1")) == ("user", "needs root")


def test_several_constraints_that_are_broken_are_found_together(check: Check, rootful: str) -> None:
    report = check(rootful, MUST_WRITE=f"/app/cache {MODEL}/cache", NEEDS_ROOT="1")
    assert _violation(report) == ("artifact", f"wrote under {MODEL}: cache")


@pytest.mark.parametrize(
    ("port", "why"), [("81", "below 1024"), ("24224", "which the service keeps for itself")]
)
def test_listening_on_a_forbidden_port_is_named(
    check: Check, good: str, port: str, why: str
) -> None:
    assert _violation(check(good, ALSO_PORT=port)) == (
        "ports in use",
        f"listens on port {port}, {why}",
    )


def test_listening_on_loopback_only_is_named(check: Check, good: str) -> None:
    assert _violation(check(good, LISTEN_TO="127.0.0.1")) == (
        "ports in use",
        "listens on port 8000 of 127.0.0.1 only, where no request arrives",
    )


def test_a_server_port_that_nothing_listens_on_is_named(check: Check, good: str) -> None:
    report = check(good, "--port=8001", "--health-port=8000", "--timeout=2")
    name, text = _violation(report)
    assert name == "ports in use"
    assert text == "nothing listens on the server's port, 8001; there is 8000"


def test_a_container_that_is_never_healthy_is_named_with_its_last_lines(
    check: Check, good: str
) -> None:
    report = check(good, "--timeout=1.5", SICK="1", SAYS="loading for ever")
    assert _violation(report) == (
        "health",
        "not healthy within 1.5 seconds: GET /health on port 8000: status 503 (it listens on 8000)",
    )
    assert report["output"] == ["loading for ever"]


def test_a_container_that_ends_is_named_with_its_status(check: Check, good: str) -> None:
    assert _violation(check(good, EXIT_STATUS="3")) == (
        "health",
        "the container exited with status 3 before it was healthy",
    )


def test_a_program_that_is_not_in_the_image_is_named(check: Check, good: str) -> None:
    name, text = _violation(check(good, "--entrypoint=tritonserver"))
    assert name == "health"
    assert '"tritonserver": executable file not found' in text


def test_ignoring_sigterm_is_a_warning(check: Check, good: str) -> None:
    report = check(good, "--stop-grace=2", IGNORE_SIGTERM="1")
    assert report["passed"] is True
    assert _warnings(report) == [("stop", "did not end within 2 seconds after SIGTERM")]


# --- around it --------------------------------------------------------------------------------


def test_without_an_engine_the_check_says_so(artifact: Path, tmp_path: Path) -> None:
    engine = DockerEngine(f"unix://{tmp_path}/nowhere.sock")
    outcome = _run(engine, "--image=any:1", f"--artifact={artifact}")
    assert outcome.returncode == 1
    assert outcome.stderr == (
        f"no Docker engine answers at {engine.host}; start Docker, or name its engine in "
        "DOCKER_HOST\n"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_check_leaves_nothing(
    publishing_docker_engine: DockerEngine,
    client: Any,
    good: str,
    artifact: Path,
    tmp_path: Path,
    number: int,
) -> None:
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "local_oci", "check-image", f"--image={good}"),
            *(f"--artifact={artifact}", "--env=SICK=1"),
        ],
        cwd=REPOSITORY,
        env={
            **os.environ,
            "DOCKER_HOST": publishing_docker_engine.host,
            "TMPDIR": str(tmp_path / "tmp"),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: client.containers.list(filters={"label": LABEL}, ignore_removed=True))
        process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "Traceback" not in stderr
    assert not client.containers.list(all=True, ignore_removed=True, filters={"label": LABEL})
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize(
    ("moment", "held"), [("between creation and start", b"/start "), ("while it runs", b"nothing")]
)
def test_what_a_killed_check_left_is_removed_by_the_next(
    publishing_docker_engine: DockerEngine,
    client: Any,
    good: str,
    artifact: Path,
    check: Check,
    moment: str,
    held: bytes,
) -> None:
    with stopping_at(publishing_docker_engine, held) as (host, came):
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "local_oci", "check-image", f"--image={good}"),
                *(f"--artifact={artifact}", "--env=SICK=1"),
            ],
            cwd=REPOSITORY,
            env={**os.environ, "DOCKER_HOST": host},
            stdout=subprocess.DEVNULL,
        )
        # The first container, which looks for curl, is held, or the server's runs.
        wait_until(lambda: came.is_set() or _serving(client))
        (theirs,) = client.containers.list(all=True, ignore_removed=True, filters={"label": LABEL})
        assert theirs.status == ("created" if came.is_set() else "running")
        check(good)
        assert client.containers.list(all=True, ignore_removed=True, filters={"label": LABEL}) == [
            theirs
        ]
        process.kill()
        process.wait()
    check(good)  # which leaves none


def _serving(client: Any) -> bool:
    running = client.containers.list(filters={"label": LABEL}, ignore_removed=True)
    return any("SICK=1" in container.attrs["Config"]["Env"] for container in running)


def test_listening_sockets_are_read_from_the_kernels_table() -> None:
    # Lines as proc(5) has them: a listener for all, one for 127.0.0.1, a connection, ::1.
    head = "  sl  local_address rem_address   st tx_queue rx_queue\n"
    rest = "00000000:00000000 00:00000000 00000000  0 0 1 1 0 100 0 0 10 0\n"
    four = (
        f"   0: 00000000:1F40 00000000:0000 0A {rest}"
        f"   1: 0100007F:20FE 00000000:0000 0A {rest}"
        f"   2: 0100007F:1F40 0100007F:C350 01 {rest}"
    )
    six = f"   0: 00000000000000000000000001000000:0051 {'0' * 32}:0000 0A {rest}"
    assert parse(head + four) == [ListeningSocket(8000, False), ListeningSocket(8446, True)]
    assert parse(head + six) == [ListeningSocket(81, True)]


def _image_archive(architecture: str, cmd: list[str] | None) -> bytes:
    """What `docker load` takes: an image of one empty layer (OCI image specification, config)."""
    layer = _tar({})
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": cmd},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": None, "Layers": ["layer.tar"]}]
    return _tar(
        {
            "config.json": json.dumps(config).encode(),
            "layer.tar": layer,
            "manifest.json": json.dumps(manifest).encode(),
        }
    )


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
