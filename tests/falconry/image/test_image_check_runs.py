"""Real images in a real Docker engine."""

import contextlib
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

import docker
from falconry.errors import ImageError, MachineError
from falconry.findings import failures, refuse
from falconry.image.build import bring_base
from falconry.image.image_checks import RUN_LABEL, check_image
from falconry.oci_facts import load_limits
from tests.docker_relay import stopping_at
from tests.falconry.image.small_image import SmallImages

ROOT = Path(__file__).parents[3]
SECRET = "kT9)q[Wd}s2;Xv"
GOOD = """
COPY settings /opt/server/settings
LABEL org.opencontainers.image.revision=abc
USER 10001
ENTRYPOINT ["/opt/server/run"]
"""
BAD = """
ARG REGISTRY_PASSWORD
ENV HF_TOKEN=not-a-form-but-a-name
LABEL org.example.api-token=s3cret
RUN rm /usr/bin/curl
ENTRYPOINT run --server
"""


@pytest.fixture(scope="module")
def client(docker_engine):
    with contextlib.closing(docker_engine.client()) as client:
        yield client


@pytest.fixture(scope="module")
def build(client):
    """Builds images that are removed in the end."""
    images = SmallImages(client)
    yield images.build
    images.remove()


@pytest.fixture(scope="module")
def good(build):
    return build(GOOD, [("settings", b"a = 1\n")])


@pytest.fixture(scope="module")
def bad(build):
    return build(BAD, buildargs={"REGISTRY_PASSWORD": "s3cret"})


@pytest.fixture
def checked(client):
    """Checks an image, which never leaves a container."""

    def run(image, **options):
        result = check_image(client, image, lambda step, fraction: None, **options)
        assert client.containers.list(all=True, sparse=True, filters={"label": RUN_LABEL}) == []
        return result

    return run


def problems(result):
    return {finding.check: finding.text for finding in failures(result.findings)}


def test_an_image_as_it_should_be_passes_with_its_numbers(client, checked, good):
    result = checked(good, labels=["org.opencontainers.image.revision"], known_secrets=[SECRET])
    assert problems(result) == {}
    texts = {finding.check: finding.text for finding in result.findings}
    assert texts["platform"] == "linux/amd64"
    assert texts["running user"] == "10001"
    assert texts["curl"] == "curl 0.0.0"
    assert texts["layers"] == "2 of 125 layers"
    assert result.size.most == client.api.inspect_image(good)["Size"]


def test_every_fault_of_an_image_is_found(checked, bad):
    result = checked(bad, labels=["org.opencontainers.image.revision"])
    found = problems(result)
    assert "shell form" in found["start command"]
    assert "root" in found["user"]
    assert "root" in found["running user"]
    assert "curl" in found["curl"]
    assert "HF_TOKEN" in found["variables"]
    assert "org.example.api-token" in found["label values"]
    assert "REGISTRY_PASSWORD" in str(failures(result.findings))
    assert "org.opencontainers.image.revision" in found["labels"]
    with pytest.raises(ImageError) as refused:
        refuse(result.findings, ImageError, "this push")
    for problem in found.values():
        assert problem in str(refused.value)


def test_no_secret_is_in_a_finding(checked, bad):
    text = str(checked(bad))
    assert "s3cret" not in text
    assert "not-a-form-but-a-name" not in text


def test_a_known_secret_is_found_in_what_an_image_says_of_itself(checked, build):
    dockerfile = f'LABEL greeting="hello {SECRET}"\nUSER 1\nENTRYPOINT ["/a"]\n'
    image = build(dockerfile)
    assert problems(checked(image)) == {}
    found = problems(checked(image, known_secrets=[SECRET]))
    assert found["label values"] == "its label greeting contains a secret of this project"
    assert SECRET not in str(found)


# --- size -------------------------------------------------------------------------------------


SMALL = {"compressed_bytes": 1000, "refused_bytes": 1000}


@pytest.fixture(scope="module")
def on_pushed_base(client, build, open_registry):
    """An image whose labels name its base, which is in a registry; and that base's reference."""
    base = f"{open_registry.host}/tests/base-{secrets.token_hex(4)}:1"
    build("COPY filling /filling", [("filling", b"0" * 100_000)], tag=base)
    client.api.push(base)
    found = bring_base(client, base, lambda step, fraction: None)
    pinned = found.pinned
    labels = {
        "org.opencontainers.image.base.name": found.name,
        "org.opencontainers.image.base.digest": found.digest,
    }
    image = build(GOOD, [("settings", b"a = 1\n")], base=base, labels=labels)
    yield image, pinned
    client.images.remove(base, force=True)


def test_the_layers_of_the_base_are_as_large_as_its_registry_says(
    client, checked, open_registry, on_pushed_base
):
    image, base = on_pushed_base
    limits = load_limits().image.model_copy(update=SMALL)
    repository = base.partition("@")[0].partition("/")[2].rpartition(":")[0]
    manifest = open_registry.ask("GET", f"{repository}/manifests/{base.partition('@')[2]}").json()
    result = checked(image, limits=limits)
    assert result.size.base == sum(layer["size"] for layer in manifest["layers"])
    assert result.size.own == len(b"a = 1\n")
    assert "OCI's 1.0 kB compressed" in problems(result)["size"]


def test_an_image_that_is_small_enough_unpacked_needs_no_registry(client, checked, on_pushed_base):
    image, _ = on_pushed_base
    size = checked(image).size
    assert (size.base, size.own) == (0, client.api.inspect_image(image)["Size"])


def test_a_base_that_no_registry_has_is_counted_unpacked(client, checked, good):
    result = checked(good, limits=load_limits().image.model_copy(update=SMALL))
    assert (result.size.base, result.size.own) == (0, client.api.inspect_image(good)["Size"])
    assert "size" not in problems(result)
    assert "warning" in {finding.state for finding in result.findings}


# --- what goes wrong --------------------------------------------------------------------------


def test_an_image_that_is_not_there_is_one_clear_error(checked):
    with pytest.raises(ImageError, match="no such image"):
        checked("falconry-test/there-is-none:1")


# A process of its own that runs an image, to be killed.
RUNNER = """
import sys
from falconry.docker_engine.client import connect
from falconry.image.image_checks import running_findings
list(running_findings(connect(), sys.argv[1]))
"""


def test_a_container_that_a_killed_run_did_not_start_is_removed_by_the_next(
    docker_engine, client, checked, good
):
    with stopping_at(docker_engine, b"/start ") as (host, came):
        process = subprocess.Popen(
            [sys.executable, "-c", RUNNER, good], cwd=ROOT, env={**os.environ, "DOCKER_HOST": host}
        )
        assert came.wait(30)
        process.kill()
        process.wait()
    (left,) = client.containers.list(all=True, ignore_removed=True, filters={"label": RUN_LABEL})
    assert left.status == "created"
    checked(good)


def test_an_engine_that_is_gone_is_one_clear_error(good):
    with (
        contextlib.closing(docker.DockerClient("tcp://127.0.0.1:9", version="1.41")) as gone,
        pytest.raises(MachineError),
    ):
        check_image(gone, good, lambda step, fraction: None)
