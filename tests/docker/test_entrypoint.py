"""What the images' entrypoint makes of its words, and how it passes signals and statuses on."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "docker/server/entrypoint.py"
H200 = json.loads((Path(__file__).parents[1] / "data" / "gpus" / "h200.json").read_text())
SERVER = "/opt/tritonserver/bin/tritonserver"

# What get_cmd of NVIDIA/TensorRT-LLM at 0a2e2c1f1268, triton_backend/scripts/
# launch_triton_server.py, composes for world_size=2 and model_repo=/models, but for the ports that
# it gives twice and the colon after the last rank.
NVIDIA_RANKS = [
    [
        SERVER,
        "--model-repository=/models",
        "--grpc-port=8001",
        "--http-port=8000",
        "--metrics-port=8002",
        "--disable-auto-complete-config",
        "--backend-config=python,shm-region-prefix-name=prefix0_",
    ],
    [
        SERVER,
        "--model-repository=/models",
        "--grpc-port=8001",
        "--http-port=8000",
        "--metrics-port=8002",
        "--model-control-mode=explicit",
        "--load-model=tensorrt_llm",
        "--disable-auto-complete-config",
        "--backend-config=python,shm-region-prefix-name=prefix1_",
    ],
]


@pytest.fixture(scope="module")
def entrypoint():
    spec = importlib.util.spec_from_file_location("image_entrypoint", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ranks_of(command):
    """mpirun's own options, and the command line of each rank."""
    assert command[0] == "mpirun"
    first = command.index("-n")
    ranks, rank = [], []
    for word in [*command[first:], ":"]:
        if word == ":":
            assert rank[:2] == ["-n", "1"]
            ranks.append(rank[2:])
            rank = []
        else:
            rank.append(word)
    return command[1:first], ranks


def test_ranks_are_told_what_nvidias_script_tells_them(entrypoint):
    arguments = NVIDIA_RANKS[0][1:5]
    _, (first, second) = ranks_of(entrypoint.server_command(arguments, 2))
    assert sorted(first[first.index(SERVER) :]) == sorted(NVIDIA_RANKS[0])
    assert second[0] == SERVER
    assert sorted(second) == sorted(NVIDIA_RANKS[1])


def test_only_the_first_rank_has_the_front(entrypoint):
    _, ranks = ranks_of(entrypoint.server_command([], 4))
    assert [any("tritonserver.py" in word for word in rank) for rank in ranks] == [
        *(True, False, False, False)
    ]


@pytest.mark.parametrize(("user", "allowed"), [(0, True), (1000, False)])
def test_roots_rights_are_allowed_only_to_root(entrypoint, monkeypatch, user, allowed):
    monkeypatch.setattr(os, "geteuid", lambda: user)
    options, _ = ranks_of(entrypoint.server_command([], 2))
    assert ("--allow-run-as-root" in options) is allowed


def test_one_process_needs_no_mpirun(entrypoint):
    command = entrypoint.server_command(["--model-repository=/models", "--http-port=9000"], 1)
    assert "mpirun" not in command
    assert command[-3:] == [SERVER, "--model-repository=/models", "--http-port=9000"]


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({"pretrained_config": {"mapping": {"world_size": 4, "tp_size": 2, "pp_size": 2}}}, 4),
        ({"pretrained_config": {"mapping": {"world_size": 1}}}, 1),
        ({"something": "else"}, 1),
        ([], 1),
    ],
)
def test_the_engine_says_how_many_ranks_there_are(entrypoint, tmp_path, config, size):
    version = tmp_path / "tensorrt_llm" / "1"
    version.mkdir(parents=True)
    (version / "config.json").write_text(json.dumps(config))
    assert entrypoint.world_size([tmp_path]) == size


def test_a_repository_without_such_an_engine_is_served_by_one_process(entrypoint, tmp_path):
    assert entrypoint.world_size([tmp_path]) == 1


PROPRIETARY = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.161.08  Sat Feb 17 22:55:48 UTC"
OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  575.57.08  Release Build  (dvs)\n"
    "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n"
)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (PROPRIETARY, "535.161.08"),
        (OPEN, "575.57.08"),
        (H200["driver_text"], "580.159.04"),
        ("other", None),
    ],
)
def test_the_kernel_says_the_drivers_version(entrypoint, tmp_path, text, version):
    path = tmp_path / "version"
    path.write_text(text)
    assert entrypoint.driver_version(path) == version


def test_a_host_without_a_driver_has_no_version(entrypoint, tmp_path):
    assert entrypoint.driver_version(tmp_path / "version") is None


@pytest.fixture
def image_environment(tmp_path):
    """Of an image of CUDA 12.9.1, whose compatibility libraries are in a directory of the test."""
    (tmp_path / "lib.real").mkdir()
    return {"CUDA_DRIVER_VERSION": "575.57.08", "_CUDA_COMPAT_PATH": str(tmp_path)}


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, ""), ("", ""), ("/usr/local/tensorrt/lib", "/usr/local/tensorrt/lib")],
)
def test_an_old_driver_gets_the_images_libraries_before_others(
    entrypoint, image_environment, tmp_path, before, after
):
    if before is not None:
        image_environment["LD_LIBRARY_PATH"] = before
    variables, remark = entrypoint.cuda_compatibility("535.161.08", image_environment)
    assert variables == {"LD_LIBRARY_PATH": f"{tmp_path}/lib.real" + (f":{after}" if after else "")}
    assert remark == (
        "the driver 535.161.08 is older than 575.57.08, which the image's CUDA wants: "
        f"{tmp_path}/lib.real comes first"
    )


@pytest.mark.parametrize("driver", ["575.51.03", "575.57.08", "580.65.06", "1000.1", None, "[N/A]"])
def test_a_new_enough_driver_or_none_changes_nothing(entrypoint, image_environment, driver):
    assert entrypoint.cuda_compatibility(driver, image_environment) == ({}, None)


@pytest.mark.parametrize("wanted", ["", "unknown"])
def test_an_image_that_does_not_say_its_driver_changes_nothing(
    entrypoint, image_environment, wanted
):
    environment = {**image_environment, "CUDA_DRIVER_VERSION": wanted}
    assert entrypoint.cuda_compatibility("535.161.08", environment) == ({}, None)


def test_an_image_without_the_libraries_is_left_as_it_is_and_says_so(
    entrypoint, image_environment, tmp_path
):
    (tmp_path / "lib.real").rmdir()
    variables, remark = entrypoint.cuda_compatibility("535.161.08", image_environment)
    assert variables == {}
    assert remark == (
        "the driver 535.161.08 is older than 575.57.08, which the image's CUDA wants, "
        f"and the image has no {tmp_path}/lib.real"
    )


def started(code, *command):
    """A process that runs a command by the entrypoint's `run`."""
    script = (
        "import importlib.util, signal, sys\n"
        f"spec = importlib.util.spec_from_file_location('entrypoint', {str(SOURCE)!r})\n"
        "entrypoint = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(entrypoint)\n"
        f"{code}\n"
        "sys.exit(entrypoint.run(sys.argv[1:]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("command", "status"), [("exit 7", 7), ("kill -KILL $$", 128 + 9)])
def test_the_status_is_the_servers_own(command, status):
    process = started("", "sh", "-c", command)
    process.communicate(timeout=30)
    assert process.returncode == status


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_server_which_ends_in_its_own_time(asked):
    trap = f"trap 'sleep 0.3; echo ended; exit 5' {asked.name.removeprefix('SIG')}"
    process = started("", "sh", "-c", f"{trap}; echo up; while :; do sleep 0.05; done")
    assert process.stdout.readline() == "up\n"
    process.send_signal(asked)
    output, _ = process.communicate(timeout=30)
    assert (output, process.returncode) == ("ended\n", 5)


def test_a_signal_that_comes_before_the_server_is_not_lost():
    before = (
        "spawn = entrypoint.os.posix_spawnp\n"
        "def signalled(*words, **options):\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    return spawn(*words, **options)\n"
        "entrypoint.os.posix_spawnp = signalled"
    )
    process = started(before, "sleep", "60")
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM


def test_a_server_that_cannot_be_run_is_named():
    process = started("", "no-such-program")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 127
    assert "cannot run no-such-program: No such file or directory" in errors


def test_orphans_of_the_server_do_not_stay_as_zombies():
    """As the first process of a container; here as the one that takes orphans over."""
    subreaper = "import ctypes\nctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER"
    process = started(subreaper, "sh", "-c", "(sleep 0.1 & echo $!) ; sleep 2")
    orphan = int(process.stdout.readline())
    deadline = time.monotonic() + 1.5
    while Path(f"/proc/{orphan}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is None
    assert not Path(f"/proc/{orphan}").exists()
    process.communicate(timeout=30)
