"""`make engine` for GPUs, as a GPU runner calls it.

Everything is real but what cannot be had: the GPU, its driver and NVIDIA's image are stand-ins
(tests/stand_in_gpu, tests/stand_in_toolchain). Docker, make and all of Falconry are not.

Every release with every recipe, and every way in which a build's container can end, without make:
tests/falconry/engine/tensorrt_llm, test_builds.py, test_build_log.py and test_container.py.
"""

import contextlib
import json
import os
import signal
import subprocess

import pytest

from falconry.engine.toolchain import load_toolchains
from falconry.files import remove
from tests.end_to_end.conftest import Clone
from tests.stand_in_toolchain.image import stand_in_image

A10 = "NVIDIA A10, 580.65.06, 8.6"
RELEASES = [row.release for row in load_toolchains().rows]
DEFAULT = load_toolchains().row(None)
LABEL = "io.falconry.build"


@pytest.fixture(scope="module")
def client(gpu_docker_engine):
    with contextlib.closing(gpu_docker_engine.client()) as client:
        yield client


@pytest.fixture(scope="module")
def image(client):
    """Gives a release's stand-in image, with a stand-in GPU, that fails as it is told."""

    def image(release="25.10", fault="", gpus=A10, engine_mib="0"):
        environment = {
            "STAND_IN_GPUS": gpus,
            "STAND_IN_FAULT": fault,
            "STAND_IN_ENGINE_MIB": engine_mib,
        }
        given = {name: value for name, value in environment.items() if value}
        return stand_in_image(client, release, load_toolchains().row(release), given)

    return image


@pytest.fixture(scope="module")
def runner(gpu_docker_engine, stand_in_driver, tmp_path_factory):
    """A clone on a GPU runner."""
    return Clone.make(
        tmp_path_factory.mktemp("runner") / "falconry",
        DOCKER_HOST=gpu_docker_engine.host,
        LD_LIBRARY_PATH=str(stand_in_driver),
        STAND_IN_GPUS=A10,
    )


def engine(image, *more):
    return ["engine", "PROFILE=oci", "RECIPE=tiny", f"SET=engine.image={image} {' '.join(more)}"]


def entries(runner):
    return sorted((runner.directory / "build/store").glob("[0-9a-f]*"))


def containers(client):
    return client.containers.list(all=True, ignore_removed=True, filters={"label": LABEL})


@pytest.fixture
def empty(runner, client):
    """The runner without engines."""
    remove(runner.directory / "build")
    yield runner
    assert containers(client) == []


def test_a_build_makes_an_engine_that_says_what_it_is(empty, image):
    words = engine(image())
    assert "✔ engine       made" in empty.ok(*words).output

    (entry,) = entries(empty)
    manifest = json.loads((entry / "manifest.json").read_text())
    gpu = manifest["gpu"]
    assert (gpu["tensorrt_llm"], gpu["gpu"], gpu["sm"]) == (DEFAULT.tensorrt_llm, "NVIDIA A10", 86)
    assert gpu["tensorrt"].startswith(".".join(DEFAULT.tensorrt.split(".")[:2]))
    assert manifest["key"] == entry.name
    again = empty.ok(*words).output
    assert "up to date" in again and "made" not in again


def test_a_repository_for_nvidias_backend_is_made_of_the_engine(empty, image):
    words = engine(image())
    assert "✔ repository   made" in empty.ok("repository", *words[1:]).output
    (repository,) = (empty.directory / "build/oci/repository").iterdir()
    assert "tensorrtllm" in (repository / "tensorrt_llm/config.pbtxt").read_text()
    (entry,) = entries(empty)
    assert (repository / "tensorrt_llm/1/rank0.engine").samefile(entry / "rank0.engine")
    assert "up to date" in empty.ok("repository", *words[1:]).output


def test_json_is_all_that_standard_output_holds(empty, image):
    process = subprocess.run(
        ["make", "--silent", *engine(image()), "JSON=1"],
        cwd=empty.directory,
        env=empty._environment,
        capture_output=True,
        text=True,
        check=True,
    )
    (entry,) = entries(empty)
    assert json.loads(process.stdout)["path"] == f"build/store/{entry.name}"
    assert "✔ engine" in process.stderr


@pytest.mark.long  # test_store.py lists and prunes
def test_the_store_is_listed_and_pruned(empty, image):
    for release in RELEASES[-2:]:
        empty.ok(*engine(image(release), f"engine.toolchain={release}"))
    listed = empty.ok("engines", "PROFILE=oci").output
    assert [path.name[:12] in listed for path in entries(empty)] == [True, True]

    assert empty.ok("prune", "PROFILE=oci", "KEEP=1").output.count("removed") == 1

    (newest,) = entries(empty)
    assert newest.name[:12] in listed.splitlines()[0]
    assert "not a positive number" in empty.fails("prune", "PROFILE=oci", "KEEP=none")


@pytest.mark.parametrize(
    ("fault", "said"), [("build:oom", "memory"), ("build:half", "rank0.engine")]
)
def test_a_failed_build_is_one_line_with_its_cause_and_leaves_nothing(empty, image, fault, said):
    assert said in empty.fails(*engine(image(fault=fault)))
    assert entries(empty) == []
    assert list((empty.directory / "build/oci/logs").iterdir())
    assert not list((empty.directory / "build/oci/scratch").glob("*"))


@pytest.mark.long  # test_build_script.py refuses it
def test_an_image_of_another_release_is_refused(empty, image):
    line = empty.fails(*engine(image("25.05"), "engine.toolchain=25.10"))
    assert "0.19.0" in line and "1.0.0" in line


def test_a_killed_build_is_finished_by_the_next(empty, image):
    words = engine(image())
    process = empty.start_until("building", *words)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()

    empty.ok(*words)
    (entry,) = entries(empty)
    assert (entry / "rank0.engine").stat().st_size > 0


def test_a_stopped_build_takes_its_container_along(empty, image, client):
    process = empty.start_until("building", *engine(image(fault="build:hang")))
    assert len(containers(client)) == 1
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in output, output
    assert containers(client) == []
    assert entries(empty) == []


def test_two_builds_of_one_key_do_the_work_once(empty, image):
    words = engine(image())
    processes = [empty.start(*words) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert sum("✔ engine       made" in output for output in outputs) == 1, outputs
    assert len(entries(empty)) == 1


def test_a_full_disk_is_one_line_and_nothing_half_written(empty, image, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        line = empty.fails(*engine(image(engine_mib="8"), f"engine.store={disk}/store"))
        assert "space" in line
        assert not list((disk / "store").glob("[0-9a-f]*"))
        assert not list((disk / "store").glob(".making-*"))
    finally:
        subprocess.run(["umount", disk], check=True)


def test_without_a_gpu_there_is_one_line_that_says_what_to_do(runner, tmp_path):
    bare = Clone(runner.directory, DOCKER_HOST=f"unix://{tmp_path}/none.sock")
    line = bare.fails("engine", "PROFILE=oci")
    assert line.startswith("✘ no NVIDIA GPU is visible to Docker")
    assert "PROFILE=local" in line


def test_an_engine_for_another_gpu_than_the_deployments_is_refused(empty, image):
    h100 = "NVIDIA H100 80GB HBM3, 580.65.06, 9.0"
    other = Clone(empty.directory, **{**empty._environment, "STAND_IN_GPUS": h100})
    line = other.fails(*engine(image(gpus=h100)))
    assert "H100" in line and "A10" in line


@pytest.mark.long  # test_engine_mirror.py takes it
def test_another_runner_takes_the_engine_from_the_bucket(empty, image, tmp_path):
    """The mirror is in local_oci, a stand-in for Object Storage; the second runner has no GPU."""
    cloud = empty.directory / "build/local/cloud"
    # All that a runner needs of a cloud is its configuration file.
    subprocess.run(
        [".venv/bin/python", "-m", "local_oci", "start", f"--directory={cloud}", "--port=0"],
        cwd=empty.directory,
        check=True,
    )
    mirror = (
        f"cloud.config_file={cloud}/config cloud.emulator.directory={cloud} "
        "engine.mirror.bucket=engines engine.store=build/runner"
    )
    words = engine(image(), mirror)
    try:
        empty.ok(*words)
        (built,) = (empty.directory / "build/runner").glob("[0-9a-f]*")
        content = (built / "rank0.engine").read_bytes()
        remove(built)
        bare = Clone(empty.directory, DOCKER_HOST=f"unix://{tmp_path}/none.sock")

        assert "✔ engine       made" in bare.ok(*words).output

        assert (built / "rank0.engine").read_bytes() == content
    finally:
        empty.run("down")


def verified(runner):
    (entry,) = entries(runner)
    return json.loads((entry / "manifest.json").read_text())["gpu"]["verified"]


def test_an_engine_that_answers_as_its_checkpoint_does_is_stored(empty, image):
    empty.ok(*engine(image()))
    assert verified(empty) == "transformers"


@pytest.mark.long  # test_answers.py compares
def test_an_engine_that_answers_otherwise_is_refused_with_both_texts(empty, image):
    wrong = image(fault="ask engine:wrong")
    said = empty.fails(*engine(wrong))
    assert "answers differ from its checkpoint's: 0% agree" in said
    assert "it says" in said and "and not" in said
    assert entries(empty) == []

    # The same engine, and nobody looks; afterwards a run that would look says so.
    empty.ok(*engine(wrong, "engine.verify=off"))
    assert verified(empty) == "off"
    again = empty.ok(*engine(wrong)).output
    assert "up to date" in again
    assert "its answers were not compared" in again


def test_where_transformers_cannot_answer_the_engine_is_stored_with_a_warning(empty, image):
    made = empty.ok(*engine(image(fault="ask reference:broken"))).output
    assert "warning: its answers were not compared" in made
    assert verified(empty).startswith("not possible: transformers in the image does not answer")
