"""Composed servers: what is asked for, the Dockerfile whole, and a build of one with stand-ins."""

import contextlib
import json
import re
import shlex
import uuid
from pathlib import Path

import pytest
from docker.errors import BuildError, DockerException

from falconry.engine.toolchain import load_toolchains
from falconry.errors import SettingsError
from falconry.image.compose import (
    BaseImages,
    Composition,
    base_images,
    composed_dockerfile,
    image_name,
    parse_composition,
    require_composable,
)
from tests.docker_images import archive
from tests.stand_in_compose import stand_in_images

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests" / "data" / "compose"
NVIDIA = json.loads((DATA / "nvidia.json").read_text())
RELEASES = [row.release for row in load_toolchains().rows]
EXAMPLE = "backends=onnxruntime,python repoagents=checksum caches=local"
DIGEST = "sha256:" + 64 * "a"


def row(release):
    return load_toolchains().row(release)


# --- What is asked for ---------------------------------------------------------------------------


def test_parts_are_read_by_kind_in_alphabetical_order():
    assert parse_composition("caches=redis,local backends=python,onnxruntime") == Composition(
        backends=("onnxruntime", "python"), caches=("local", "redis")
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no backend is named"),
        ("repoagents=checksum", "no backend is named"),
        ("backend=python", "'backend=python' does not say backends="),
        ("python", "'python' does not say backends="),
        ("backends=", "backends= has a name missing"),
        ("backends=python,", "backends=python, has a name missing"),
        ("backends=python, onnxruntime", "backends=python, has a name missing"),
        ("backends=python backends=dali", "backends= is given twice"),
        ("backends=python,python", "backends= names python twice"),
        ("backends=../python", "'../python' in backends= is not the name"),
        ("backends=python caches=lo$(cal)", "'lo$(cal)' in caches= is not the name"),
        ("backends=pythön", "'pythön' in backends= is not the name"),
    ],
)
def test_a_wrong_composition_is_one_sentence(text, problem):
    with pytest.raises(SettingsError) as raised:
        parse_composition(text)
    assert str(raised.value).startswith(f"COMPOSE: {problem}")
    assert "\n" not in str(raised.value)
    assert raised.value.remedy


@pytest.mark.parametrize("name", NVIDIA["unsupported"])
def test_what_nvidia_does_not_compose_is_refused_with_what_is_built_instead(name):
    with pytest.raises(SettingsError) as raised:
        require_composable(Composition(backends=("python", name)), row("25.10"))
    assert f"NVIDIA's compose does not support the backend {name}" in raised.value.problem
    assert "compose.md" in raised.value.problem
    assert "triton-trtllm" in raised.value.remedy
    assert row("25.10").image in raised.value.remedy


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("backends=onnx", "has no onnx among its backends; choose from dali, fil,"),
        ("backends=ensemble", "has no ensemble among its backends"),
        ("backends=python repoagents=local", "among its repoagents; choose from checksum"),
        ("backends=python caches=checksum", "among its caches; choose from local, redis"),
    ],
)
def test_a_part_that_the_release_lacks_is_answered_with_those_it_has(text, problem):
    with pytest.raises(SettingsError, match=re.escape(problem)):
        composed_dockerfile(parse_composition(text), row("25.10"))


def test_the_image_is_named_after_its_backends():
    assert image_name(parse_composition(EXAMPLE)) == "triton-onnxruntime-python"


# --- Rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", RELEASES)
def test_a_row_has_nvidias_names_and_the_parts_of_its_script(release):
    composable = row(release).compose
    # docs/customization_guide/compose.md names the two images so.
    assert base_images(composable) == BaseImages(
        full=f"nvcr.io/nvidia/tritonserver:{release}-py3",
        minimum=f"nvcr.io/nvidia/tritonserver:{release}-py3-min",
    )
    # TensorFlow went with 25.03 (triton-inference-server/server, pull request 8068).
    assert set(composable.backends) == set(NVIDIA["backends"]) - {"ensemble", "tensorflow"}
    assert list(composable.repoagents) == NVIDIA["repoagents"]
    assert list(composable.caches) == NVIDIA["caches"]


def test_a_digest_that_a_row_knows_pins_the_image():
    known = row("25.10").compose.model_copy(update={"full_digest": DIGEST})
    assert base_images(known).full == f"nvcr.io/nvidia/tritonserver:25.10-py3@{DIGEST}"


# --- The Dockerfile ------------------------------------------------------------------------------

GOLDEN = {
    "25.05-dali-python": "backends=python,dali caches=redis,local",
    "25.05-tensorrt": "backends=tensorrt repoagents=checksum",
    "25.10-onnxruntime-python": EXAMPLE,
    "25.10-pytorch": "backends=pytorch",
    "26.07-pytorch-tensorrt-by-digest": "backends=tensorrt,pytorch",
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_dockerfile_is_the_recorded_one(name):
    images = None
    if name.endswith("-by-digest"):
        images = BaseImages(
            full=f"mirror.example/triton:full@{DIGEST}", minimum=f"mirror.example/triton@{DIGEST}"
        )
    text = composed_dockerfile(parse_composition(GOLDEN[name]), row(name[:5]), images)
    assert text == (DATA / f"{name}.Dockerfile").read_text()


def test_every_recorded_dockerfile_is_compared():
    assert {path.stem for path in DATA.glob("*.Dockerfile")} == set(GOLDEN)


def test_the_order_of_names_changes_nothing():
    one = parse_composition("backends=python,onnxruntime caches=local")
    other = parse_composition("caches=local backends=onnxruntime,python")
    assert composed_dockerfile(one, row(None)) == composed_dockerfile(other, row(None))


# Tools of NVIDIA's image that no backend needs to serve.
TOOLS = {
    *("clang", "dirmngr", "git", "gperf", "software-properties-common", "wget"),
    *("python3-pip", "python3-setuptools", "python3-wheel"),
}
# What has no meaning without NVIDIA's entrypoint, holds for the build alone, or for TensorFlow.
VARIABLES_LEFT_OUT = {
    *("TRITON_SERVER_USER", "DEBIAN_FRONTEND", "NVIDIA_PRODUCT_NAME", "PIP_BREAK_SYSTEM_PACKAGES"),
    *("TF_ADJUST_HUE_FUSED", "TF_ADJUST_SATURATION_FUSED", "TF_ENABLE_WINOGRAD_NONFUSED"),
    "TF_AUTOTUNE_THRESHOLD",
}
STARTING = ("ENV", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD")


@pytest.mark.parametrize("release", RELEASES)
def test_beside_what_is_left_out_on_purpose_an_image_gets_what_nvidias_script_gives(release):
    text = composed_dockerfile(parse_composition(EXAMPLE), row(release))

    copied = [
        source.rstrip("/")
        for line in text.splitlines()
        if line.startswith("COPY --from=full /opt/tritonserver")
        for source in shlex.split(line)[2:-1]
    ]
    assert copied == NVIDIA["copied"]

    command = text.replace("\\\n", " ").rpartition("--no-install-recommends")[2]
    packages = command.partition("&&")[0].split()
    assert set(packages) == set(NVIDIA["packages"]) - TOOLS

    variables = dict(re.findall(r"^ENV (\w+)=(\S*)$", text, re.MULTILINE))
    theirs = NVIDIA["environment"]
    assert variables == {name: theirs[name] for name in theirs.keys() - VARIABLES_LEFT_OUT}


def test_the_image_starts_as_the_one_with_tensorrt_llm_does():
    ours = composed_dockerfile(parse_composition(EXAMPLE), row(None))
    theirs = (ROOT / "docker" / "triton-trtllm.Dockerfile").read_text()
    assert _instructions(ours, STARTING) == _instructions(theirs, STARTING)


# --- A build, with stand-ins for NVIDIA's images -------------------------------------------------

# STAND-IN for docker/server/entrypoint.py: only that the image starts it, and it the server.
ENTRYPOINT = """\
import os, sys
os.execvp("tritonserver", ["tritonserver", *sys.argv[1:]])
"""


CONTEXT = {
    "server/entrypoint.py": (ENTRYPOINT.encode(), 0o644),
    "server/front.py": (b"", 0o644),
    "requirements.txt": (b"", 0o644),
    "certificates/.keep": (b"", 0o644),
}


@pytest.fixture(scope="module")
def client(docker_engine):
    with contextlib.closing(docker_engine.client(300)) as client:
        yield client


@pytest.fixture(scope="module")
def built(client):
    """Builds images from a Dockerfile and files; removes them and their stages after the tests.

    `bases` are the images that a composed Dockerfile has as build arguments.
    """
    tags, steps = [], []

    def build(dockerfile, files, bases=None):
        tag = f"falconry-compose-test:{uuid.uuid4().hex[:12]}"
        context = archive({"Dockerfile": dockerfile.encode(), **files})
        arguments = {"FULL": bases.full, "MINIMUM": bases.minimum} if bases else {}
        options = {"fileobj": context, "custom_context": True, "tag": tag, "forcerm": True}
        try:
            _, log = client.images.build(**options, buildargs=arguments)
            tags.append(tag)
            steps.extend(_steps(log))
        except BuildError as error:
            steps.extend(_steps(error.build_log))
            raise
        return tag

    yield build
    for tag in reversed(tags):
        client.images.remove(tag)
    for step in reversed(steps):
        with contextlib.suppress(DockerException):  # gone with what was made from it, or in use
            if not client.images.get(step).tags:
                client.images.remove(step)


@pytest.fixture(scope="module")
def stand_ins(client, built):
    """Small images in place of NVIDIA's."""
    return stand_in_images(client, built, row("25.10").compose)


def test_exactly_the_chosen_parts_arrive_and_the_entrypoint_starts_the_server(
    client, built, stand_ins
):
    text = composed_dockerfile(parse_composition(EXAMPLE), row("25.10"), stand_ins)
    image = built(text, CONTEXT, stand_ins)

    arguments = ["--model-repository=/models", "--exit-on-error=true"]
    said = client.containers.run(image, arguments, read_only=True, network_mode="none", remove=True)

    assert json.loads(said) == {
        "parts": {
            "backends": ["onnxruntime", "python"],
            "repoagents": ["checksum"],
            "caches": ["local"],
            "lib": ["libtritonserver.so"],
        },
        "arguments": arguments,
        "user": 1000,
        "group": 1000,
        "top": [
            *("LICENSE", "NVIDIA_Deep_Learning_Container_License.pdf", "TRITON_VERSION"),
            *("backends", "bin", "caches", "include", "lib", "repoagents"),
        ],
    }


def test_packages_and_libraries_arrive_and_no_certificate_stays(client, built, stand_ins):
    text = composed_dockerfile(parse_composition(EXAMPLE), row("25.10"), stand_ins)
    image = built(text, CONTEXT | {"certificates/ca.crt": (b"", 0o644)}, stand_ins)

    program = """
import os
print(open("/called").read(), end="")
print(open("/usr/local/lib/packages/installed").read())
print(open("/usr/local/lib/libdcgm.so.4").read())
print(os.path.exists("/certificates"), os.path.exists("/requirements.txt"))
"""
    said = client.containers.run(
        image, ["-c", program], entrypoint=["python3"], network_mode="none", remove=True
    )
    lines = said.decode().splitlines()

    assert lines[0] == "apt-get update"
    assert lines[1].startswith("apt-get install --yes --no-install-recommends curl libarchive-dev")
    assert lines[2:] == ["ldconfig", "numpy<2", "stand-in", "False False"]


def test_a_library_that_the_full_image_lacks_fails_the_build(built, stand_ins):
    # The stand-in has DCGM and no NVSHMEM, which PyTorch of 25.10 links to.
    text = composed_dockerfile(parse_composition("backends=pytorch"), row("25.10"), stand_ins)
    with pytest.raises(BuildError, match="no source files"):
        built(text, CONTEXT, stand_ins)


def _steps(log):
    """The image of each step, in the words of the engine's builder."""
    return re.findall(r"---> (\w{12})\b", "".join(event.get("stream", "") for event in log))


def _instructions(dockerfile, names):
    """A Dockerfile's last instruction of each name, without line breaks."""
    lines = dockerfile.replace("\\\n", "").splitlines()
    found = {line.partition(" ")[0]: line.split() for line in lines}
    return {name: found[name] for name in names}
