"""`make deploy` on a runner without GPU and Docker: a job builds the engine, and it answers.

Real are make, all of Falconry, local_oci, its registry and Triton. Stand-ins are NVIDIA's tools and
its backend, and the container is a process. Every step at which a runner can be killed, and two
runners at once: tests/falconry/cloud/test_build_jobs.py.
"""

import contextlib
import json
import shlex
import sys

import pytest

from falconry.engine.toolchain import load_toolchains
from falconry.image.process_image import prepare_process_image
from local_oci.home import Home
from local_oci.runtime.images import ProcessImages
from tests.end_to_end.conftest import Clone, kill
from tests.local_oci.container_images import push
from tests.local_oci.support import LocalCloud, Sdk
from tests.stand_in_backend import engine as stand_in
from tests.stand_in_toolchain.image import stand_in_image
from tests.stand_in_toolchain.process_image import stand_in_process_image

TOOLCHAIN = "local.ocir.io/test/toolchain:25.10"
# Puts the stand-in where the model repository names NVIDIA's backend, and starts the real Triton.
SERVER = """\
#!{python}
import os, shutil, sys
from pathlib import Path

stand_in, sentences = Path({stand_in!r}), Path({sentences!r})
words = sys.argv[1:]
for number, word in enumerate(words):
    if word.startswith("--model-repository="):
        copy = Path(os.environ["HOME"], "model_repository")
        shutil.copytree(word.partition("=")[2], copy)
        words[number] = f"--model-repository={{copy}}"
        model = copy / "tensorrt_llm"
        for path in (model, model / "1", model / "config.pbtxt"):
            path.chmod(0o755)
        text = (model / "config.pbtxt").read_text()
        text = text.replace('backend: "tensorrtllm"', 'backend: "python"')
        (model / "config.pbtxt").write_text(text)
        shutil.copyfile(stand_in, model / "1/model.py")
        shutil.copyfile(sentences, model / "1/sentences.json")
os.execv(f"{{sys.argv[0]}}.real", [f"{{sys.argv[0]}}.real", *words])
"""


def server_image(directory):
    """The process image of the real Triton, with NVIDIA's backend replaced when it starts."""
    prepare_process_image(directory)
    launcher = directory / "bin/tritonserver"
    launcher.rename(directory / "bin/tritonserver.real")
    model = stand_in.__file__.replace("engine.py", "model.py")
    sentences = str(stand_in.TINY / "sentences.json")
    launcher.write_text(SERVER.format(python=sys.executable, stand_in=model, sentences=sentences))
    launcher.chmod(0o755)
    with (directory / "mounts").open("a") as mounts:
        mounts.write(f"{model}\n{sentences}\n")
    return directory


@pytest.fixture
def runner(docker_registry, tmp_path):
    """A clone without GPU and Docker, its cloud, and what selects the profile."""
    clone = Clone.make(tmp_path / "falconry")
    row = load_toolchains().row("25.10")
    toolchain = stand_in_process_image(
        tmp_path / "toolchain", "25.10", row, STAND_IN_GPUS="NVIDIA A10, 580.65.06, 8.6"
    )
    directory = clone.directory / "build/oci/cloud"
    directory.parent.mkdir(parents=True)
    cloud = LocalCloud(directory, "--registry", f"--image={TOOLCHAIN}={toolchain}").start()
    try:
        yield clone, cloud
    finally:
        cloud.stop()


@pytest.mark.long  # test_build_jobs.py of the cloud builds, joins and is killed in this process
def test_a_runner_without_gpu_and_docker_deploys_an_engine_that_a_job_builds(
    runner, tmp_path, open_registry
):
    clone, cloud = runner
    reference = f"{open_registry.host}/test/server:1"
    open_registry.push("test/server", "1", b"a layer")
    images = ProcessImages(Home(cloud.directory).images)
    images.register({reference: server_image(tmp_path / "server")})
    words = [
        "PROFILE=oci",
        "RECIPE=tiny",
        "ENGINE_RUN=job",
        "SET="
        + shlex.join(
            [
                "cloud.config_file=build/oci/cloud/config",
                "cloud.emulator.directory=build/oci/cloud",
                "engine.mirror.bucket=engines",
                f"engine.job.process_image={TOOLCHAIN}",
                f"image.reference={reference}",
            ]
        ),
    ]
    kill(clone.start_until("the job is running", "deploy", *words))

    said = clone.ok("deploy", *words).output

    assert "joining the job run" in said or "fetching from the mirror" in said
    assert "✔ deployment" in said and "ACTIVE" in said
    answer = clone.ok("query", "PROMPT=Explain Cloud Computing to a school kid", *words).answer
    assert answer
    sdk = Sdk(cloud)
    (run,) = sdk.data_science.list_job_runs(sdk.compartment).data
    assert run.lifecycle_state == "DELETED"
    assert "up to date" in clone.ok("deploy", *words).output


@pytest.fixture
def engine(publishing_docker_engine, monkeypatch):
    """The Docker engine that the cloud uses; the clones have none."""
    monkeypatch.setenv("DOCKER_HOST", publishing_docker_engine.host)
    return publishing_docker_engine


@pytest.mark.long
def test_a_job_is_a_container_of_the_toolchains_image_and_a_layer_with_oci(
    engine, docker_registry, tmp_path
):
    """Nothing of the job is replaced but NVIDIA's tools: pip brings the packages of the layer."""
    clone = Clone.make(tmp_path / "falconry")
    rows = clone.directory / "engine/toolchains.toml"
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    rows.write_text(rows.read_text().replace('python = "3.12"', f'python = "{here}"'))
    directory = clone.directory / "build/oci/cloud"
    directory.parent.mkdir(parents=True)
    cloud = LocalCloud(directory, "--registry").start()
    try:
        reference = f"{(directory / 'registry-host').read_text()}/localoci/tests/nvidia:25.10"
        with contextlib.closing(engine.client()) as client, Sdk(cloud).auth_token() as token:
            row = load_toolchains().row("25.10")
            gpus = {"STAND_IN_GPUS": "NVIDIA A10, 580.65.06, 8.6"}
            image = stand_in_image(client, "25.10", row, gpus, complete=True)
            client.images.get(image).tag(reference)
            digest = push(client, reference, token)
        words = (
            "cloud.config_file=build/oci/cloud/config cloud.emulator.directory=build/oci/cloud "
            f"engine.mirror.bucket=engines engine.image={reference}"
        )
        clone.ok("engine", "PROFILE=oci", "RECIPE=tiny", "ENGINE_RUN=job", f"SET={words}")
        (path,) = clone.directory.glob("build/store/*/manifest.json")
        gpu = json.loads(path.read_text())["gpu"]
        assert gpu["image"].endswith(f"/localoci/tests/nvidia@{digest}")
        assert gpu["verified"] == "transformers"
    finally:
        cloud.stop()
