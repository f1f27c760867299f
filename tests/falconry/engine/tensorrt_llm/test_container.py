"""Builds on a real Docker engine, with a stand-in image (Python alone) and stand-in scripts."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from falconry.docker_engine import containers
from falconry.docker_engine.client import can_see_gpus
from falconry.docker_engine.containers import PROCESS_LABEL
from falconry.engine.tensorrt_llm.commands import CHECKPOINT
from falconry.engine.tensorrt_llm.container import (
    BUILD_LABEL,
    BuildRun,
    docker_command,
    run_build,
)
from falconry.engine.tensorrt_llm.container_view import ContainerFile
from falconry.errors import EngineError, ImageError, MachineError
from tests.stand_in_toolchain.image import python_image

ROOT = Path(__file__).parents[4]
_DEADLINE_S = 20

# What a build does that goes well, and what it finds where it runs.
BUILD = """
import json, os, pathlib, socket, sys
root = pathlib.Path("/falconry")
assert sys.argv[1] == "/falconry/scratch/plan.json" and json.load(open(sys.argv[1])) == {}
print("::falconry::" + json.dumps({"phase": "build", "step": "building", "fraction": 0.5}))
print("to stderr", file=sys.stderr)
def writes(place):
    try:
        (root / place / "written").write_text("x")
        return True
    except OSError:
        return False
report = {
    "uid": os.getuid(), "home": os.environ["HOME"], "hostname": socket.gethostname(),
    "writes": [place for place in ("checkpoint", "calibration", "scratch", "engine", "cache", ".")
               if writes(place)],
    "tmp": pathlib.Path("/tmp/x").write_text("x"), "init": os.getpid() != 1,
    "interfaces": sorted(name for _, name in socket.if_nameindex()),
    "capabilities": [line.split()[1] for line in open("/proc/self/status") if "CapBnd" in line][0],
    "no_new_privileges": "NoNewPrivs:\\t1" in open("/proc/self/status").read(),
    "shm": os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize,
    "setting": os.environ["SETTING"], "address": socket.gethostbyname(socket.gethostname()),
    "checkpoint": {path.name: path.read_text() for path in (root / "checkpoint").iterdir()},
}
(root / "engine" / "rank0.engine").write_bytes(b"engine")
(root / "scratch" / "report.json").write_text(json.dumps(report))
"""
HANG = """
import time
print("::falconry::" + '{"phase": "build", "step": "hanging", "fraction": 0.5}')
time.sleep(600)
"""


@pytest.fixture(scope="module")
def client(docker_engine):
    with contextlib.closing(docker_engine.client()) as client:
        yield client


@pytest.fixture(scope="module")
def image(client):
    """A stand-in image: this machine's Python without packages."""
    return python_image(client)


@pytest.fixture
def prepared(docker_engine, client, image, tmp_path, monkeypatch):
    """Makes a run of a stand-in script; every container of these tests is gone afterwards."""
    monkeypatch.setenv("DOCKER_HOST", docker_engine.host)

    def prepare(script=BUILD, key="0123456789abcdef" * 4, name="run"):
        place = tmp_path / name
        for directory in ("checkpoint", "calibration", "output", "scratch"):
            (place / directory).mkdir(parents=True)
        (place / "scratch" / "plan.json").write_text("{}")
        (place / "build.py").write_text(textwrap.dedent(script))
        return BuildRun(
            key=key,
            image=image,
            checkpoint=(ContainerFile(CHECKPOINT, place / "checkpoint"),),
            output=place / "output",
            scratch=place / "scratch",
            cache=place / "cache",
            calibration=place / "calibration",
            gpus=None,
            network=False,
            shm_bytes=32 << 20,
            log=place / "build.log",
            environment={"SETTING": "a value"},
            build_script=place / "build.py",
        )

    yield prepare
    for container in _containers(client):
        container.remove(force=True)


def _containers(client):
    return client.containers.list(all=True, ignore_removed=True, filters={"label": BUILD_LABEL})


def build(run):
    steps = []
    return run_build(run, lambda step, done: steps.append((step, done))), steps


def test_a_build_gives_its_report_its_files_and_its_progress(prepared, client):
    run = prepared()
    report, steps = build(run)
    assert report["setting"] == "a value"
    assert report["image"] == run.image
    assert (run.output / "rank0.engine").read_bytes() == b"engine"
    assert steps == [("building", 0.5)]
    assert _containers(client) == []


def test_only_scratch_output_and_cache_can_be_written(prepared):
    report, _ = build(prepared())
    assert report["writes"] == ["scratch", "engine", "cache"]


def test_a_build_has_few_rights(prepared):
    report, _ = build(prepared())
    assert report["uid"] == (os.getuid() or 65532)
    assert report["capabilities"] == "0" * 16
    assert report["no_new_privileges"] is True
    assert report["interfaces"] == ["lo"]


def test_a_build_finds_what_its_tools_need(prepared):
    report, _ = build(prepared())
    assert report["home"] == "/falconry/scratch"
    assert report["hostname"] == "falconry-build"
    assert report["address"] == "127.0.0.1"
    assert report["init"] is True
    assert report["shm"] == 32 << 20


def test_what_a_build_made_belongs_to_who_started_it(prepared):
    run = prepared()
    build(run)
    assert (run.output / "rank0.engine").stat().st_uid == os.getuid()
    assert run.output.stat().st_uid == run.scratch.stat().st_uid == os.getuid()


def test_the_cache_serves_the_next_build(prepared):
    run = prepared()
    build(run)
    report, _ = build(run)
    assert "cache" in report["writes"]


def test_the_container_sees_the_files_of_the_view_and_no_others(prepared):
    run = prepared()
    weights = run.scratch.parent / "blob"
    weights.write_text("weights")
    view = (
        ContainerFile(CHECKPOINT / "config.json", b"{}"),
        ContainerFile(CHECKPOINT / "model.safetensors", weights),
    )
    (run.scratch.parent / "configuration_falcon.py").write_text("code")
    report, _ = build(replace(run, checkpoint=view))
    assert report["checkpoint"] == {"model.safetensors": "weights", "config.json": "{}"}
    assert report["writes"] == ["scratch", "engine", "cache"]


def test_what_was_written_for_the_container_is_gone_after_the_build(prepared):
    run = prepared()
    before = sorted(run.scratch.parent.iterdir())
    build(replace(run, checkpoint=(ContainerFile(CHECKPOINT / "config.json", b"{}"),)))
    assert sorted(run.scratch.parent.iterdir()) == sorted([*before, run.cache, run.log])


def test_the_log_is_kept_in_full(prepared):
    run = prepared(
        BUILD + "for number in range(20000): print(number, 'x' * 40)\nprint('end', end='')"
    )
    build(run)
    log = run.log.read_text()
    assert "to stderr\n" in log
    assert [line for line in log.splitlines() if line.endswith("x")] == [
        f"{number} {'x' * 40}" for number in range(20000)
    ]
    assert log.endswith("end")


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("raise SystemExit(3)", "the build ended with 3"),
        ("raise ValueError('no such layer')", "no such layer"),
        ("print('trtllm-build: error: unrecognized arguments: --x'); exit(2)", "not know --x"),
        ("open('/falconry/checkpoint/x', 'w')", "Read-only file system"),
        ("import os; os.kill(os.getpid(), 9)", "the host's memory ran out"),
        ('print(\'::falconry::{"error": "own words"}\'); exit(1)', "own words"),
        ("pass", "the build ended without a report"),
    ],
)
def test_a_failed_build_says_why_and_where_the_log_is(prepared, client, script, problem):
    run = prepared(script)
    with pytest.raises(EngineError, match=problem) as raised:
        build(run)
    assert raised.value.where == str(run.log)
    assert raised.value.remedy
    assert _containers(client) == []
    assert run.output.stat().st_uid == os.getuid()


def test_a_checkpoint_that_the_build_may_not_read_is_named(prepared):
    run = prepared("open('/falconry/checkpoint/config.json')")
    (run.checkpoint[0].content / "config.json").touch(mode=0)
    with pytest.raises(EngineError, match=r"may not read checkpoint/config\.json") as raised:
        build(run)
    assert "chmod" in raised.value.remedy


def test_gpus_that_docker_cannot_give_are_told(prepared, client, monkeypatch):
    words = 'could not select device driver "" with capabilities: [[gpu]]'

    def refuse(container):
        raise containers.RefusalError(words)

    monkeypatch.setattr(containers, "output_of", refuse)
    run = prepared()
    with pytest.raises(EngineError, match="cannot give the build an NVIDIA GPU"):
        build(run)
    assert run.log.read_text() == f"{words}\n"
    assert _containers(client) == []


def test_a_place_that_the_engine_does_not_see_is_told(prepared, client):
    run = replace(prepared(), checkpoint=(ContainerFile(CHECKPOINT, Path("/nowhere/falcon")),))
    with pytest.raises(EngineError, match="does not see /nowhere/falcon"):
        build(run)
    assert _containers(client) == []


def test_docker_is_asked_for_as_many_gpus_as_the_build_needs(prepared, client):
    if not can_see_gpus(client):
        pytest.skip("this Docker engine takes no --gpus")
    run = prepared(BUILD.replace("report = {", "report = {'gpus': os.environ[VISIBLE],"))
    run.build_script.write_text(
        "VISIBLE = 'NVIDIA_VISIBLE_DEVICES'\n" + run.build_script.read_text()
    )
    # moby, daemon/nvidia_linux.go: a count becomes the first so many GPUs.
    assert build(replace(run, gpus=2))[0]["gpus"] == "0,1"


def test_an_image_without_python_is_told(prepared, client):
    empty = io.BytesIO()
    tarfile.open(fileobj=empty, mode="w").close()
    client.api.import_image(empty.getvalue(), repository="falconry-test/empty", tag="1")
    with pytest.raises(EngineError, match="the image has no python3"):
        build(replace(prepared(), image="falconry-test/empty:1"))
    assert _containers(client) == []


def test_two_builds_run_side_by_side(prepared):
    script = "import time\nstart = time.time()\ntime.sleep(2)" + BUILD.replace(
        '"uid"', '"start": start, "end": time.time(), "uid"'
    )
    runs = [prepared(script, name=name) for name in ("one", "two")]
    with ThreadPoolExecutor(2) as pool:
        (one, _), (two, _) = pool.map(build, runs)
    assert max(one["start"], two["start"]) < min(one["end"], two["end"])


# A process of its own that builds, for signals.
BUILDER = """
import sys
from pathlib import Path
from falconry.engine.tensorrt_llm.container import BuildRun, run_build
place = Path(sys.argv[1])
run_build(
    BuildRun(
        key="e" * 64, image=sys.argv[2], checkpoint=(), output=place / "output",
        scratch=place / "scratch", cache=place / "cache", calibration=None, gpus=None,
        network=False, shm_bytes=1 << 20, log=place / "build.log", environment={},
        build_script=place / "build.py",
    ),
    lambda step, done: print(step, flush=True),
)
"""


@pytest.fixture
def hanging_builder(prepared):
    """Starts a process whose build hangs, and waits until it does."""
    started = []

    def start(name="hanging"):
        run = prepared(HANG, name=name)
        process = subprocess.Popen(
            [sys.executable, "-c", BUILDER, run.scratch.parent, run.image],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "hanging\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
)
def test_a_signal_leaves_no_container(hanging_builder, client, number, status):
    process = hanging_builder()
    assert len(_containers(client)) == 1
    process.send_signal(number)
    assert process.wait(_DEADLINE_S) == status
    assert _containers(client) == []


def test_a_second_ctrl_c_does_not_disturb_the_removal(hanging_builder, client):
    process = hanging_builder()
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    process.wait(_DEADLINE_S)
    assert _containers(client) == []


def test_the_next_start_removes_what_a_killed_process_left(hanging_builder, prepared, client):
    killed, alive = hanging_builder("killed"), hanging_builder("alive")
    killed.kill()
    killed.wait()
    assert len(_containers(client)) == 2
    build(prepared(name="next"))
    (left,) = _containers(client)
    assert left.status == "running"
    assert left.labels[PROCESS_LABEL].split()[2] == str(alive.pid)


def test_a_container_of_another_machine_or_process_namespace_is_left_alone(prepared, client, image):
    foreign = client.containers.create(
        image,
        "python3",
        network_mode="none",
        labels={BUILD_LABEL: "x", PROCESS_LABEL: "other-boot pid:[1] 999999 5"},
    )
    running = client.containers.run(
        image,
        ["python3", "-c", "import time; time.sleep(600)"],
        detach=True,
        network_mode="none",
        labels={BUILD_LABEL: "x", PROCESS_LABEL: "other-boot pid:[1] 999999 5"},
    )
    build(prepared())
    # One that does not run and was made before this boot can have no process any more.
    assert [left.id for left in _containers(client)] == [running.id]
    assert foreign.id != running.id


def test_no_engine_is_one_line(prepared, monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with pytest.raises(MachineError, match="no Docker engine answers") as raised:
        build(prepared())
    assert "DOCKER_HOST" in raised.value.remedy


def test_importing_is_cheap():
    code = (
        "import sys, falconry.engine.tensorrt_llm.container; print('docker.client' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert told.stdout == "False\n"


def test_an_absent_image_that_cannot_be_pulled_is_told(prepared):
    run = replace(prepared(), image="127.0.0.1:1/absent:1")
    with pytest.raises(ImageError, match="cannot be pulled") as raised:
        build(run)
    assert raised.value.where == run.image
    assert not run.log.exists()


def test_the_command_for_people_makes_the_same_container(prepared, client, monkeypatch):
    if not any(Path(place, "docker").exists() for place in os.environ["PATH"].split(":")):
        pytest.skip("no docker command here")
    run = prepared(name="with, comma and space")
    run.cache.mkdir()
    words = docker_command(run).replace("docker run --rm", "docker create", 1)
    made = subprocess.run(words, shell=True, capture_output=True, text=True, check=True)
    theirs = client.containers.get(made.stdout.strip()).attrs
    created = []

    def stop(container):
        created.append(container.attrs)
        raise EngineError("enough")

    monkeypatch.setattr(containers, "output_of", stop)
    with pytest.raises(EngineError):
        build(run)
    ours = created[0]
    for place in ("Hostname", "User", "Env", "Cmd", "Image"):
        assert sorted(ours["Config"][place]) == sorted(theirs["Config"][place]), place
    different = {
        name: (value, theirs["HostConfig"].get(name))
        for name, value in ours["HostConfig"].items()
        if (value or None) != (theirs["HostConfig"].get(name) or None)
    }
    assert set(different) <= {"ConsoleSize", "Mounts", "RestartPolicy"}, different
    assert _mount_facts(ours) == _mount_facts(theirs)


def _mount_facts(attributes):
    return sorted((it["Source"], it["Destination"], it["RW"]) for it in attributes["Mounts"])
