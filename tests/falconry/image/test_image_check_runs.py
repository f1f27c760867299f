"""Real images in a real Docker engine."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from falconry.errors import ImageError, MachineError
from falconry.image.limits import load_limits
from falconry.image.preflight import LayerRecords, check, examination, examine
from falconry.image.preflight.container import LABEL
from falconry.image.preflight.layers import examine_layer
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
COPY key.pem /srv/.ssh/key.pem
COPY model.safetensors /models/model.safetensors
RUN rm /srv/.ssh/key.pem
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
def key():
    return ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.fixture(scope="module")
def bad(build, key):
    files = [("key.pem", key), ("model.safetensors", b"\0" * 100)]
    return build(BAD, files, buildargs={"REGISTRY_PASSWORD": "s3cret"})


@pytest.fixture
def records(tmp_path):
    return tmp_path / "layers.json"


@pytest.fixture
def examined(client, records):
    """Examines an image with the records of earlier calls; and never leaves a container."""

    def run(image, steps=None, **options):
        def report(step, fraction):
            if steps is not None:
                steps.append(step)

        result = examine(client, image, LayerRecords(records), report, **options)
        assert client.containers.list(all=True, sparse=True, filters={"label": LABEL}) == []
        return result

    return run


def problems(result):
    return {finding.check: finding.problem for finding in result.problems}


def test_an_image_as_it_should_be_passes_with_its_numbers(client, examined, good):
    result = examined(good, labels=["org.opencontainers.image.revision"], known_secrets=[SECRET])
    check(result)
    facts = {finding.check: finding.fact for finding in result.findings}
    assert facts["platform"] == "linux/amd64"
    assert facts["running user"] == "10001"
    assert facts["curl"] == "curl 0.0.0"
    assert facts["layers"] == "2 of 125 layers"
    assert result.image_id == good
    said = client.api.inspect_image(good)
    assert [layer.diff_id for layer in result.layers] == said["RootFS"]["Layers"]
    # The engine counts the files, the archive has headers and padding too.
    assert said["Size"] < result.uncompressed < said["Size"] * 1.1
    assert 0 < result.compressed < result.uncompressed


def test_every_fault_of_an_image_is_found(examined, bad):
    result = examined(bad, labels=["org.opencontainers.image.revision"])
    found = problems(result)
    assert "shell form" in found["start command"]
    assert "root" in found["user"]
    assert "root" in found["running user"]
    assert "curl" in found["curl"]
    assert "HF_TOKEN" in found["variables"]
    assert "REGISTRY_PASSWORD" in str([finding.problem for finding in result.problems])
    assert "org.opencontainers.image.revision" in found["labels"]
    assert "/models/model.safetensors" in found["checkpoint"]
    assert "/srv/.ssh/key.pem (a private key; a later layer removes it" in found["secret"]
    with pytest.raises(ImageError) as refused:
        check(result)
    for problem in found.values():
        assert problem in str(refused.value)


def test_no_secret_is_told(examined, bad, key):
    told = str(examined(bad))
    body = key.splitlines()[1].decode()
    assert body not in told
    assert "s3cret" not in told
    assert "not-a-form-but-a-name" not in told


def test_a_known_secret_is_found_in_any_file(examined, build):
    dockerfile = 'COPY a /opt/a\nUSER 1\nENTRYPOINT ["/a"]\n'
    image = build(dockerfile, [("a", b"\0" + SECRET.encode() + b"\0")])
    assert problems(examined(image)) == {}
    found = problems(examined(image, known_secrets=[SECRET]))
    assert found == {"secret": "layer 2: /opt/a (a secret of this project)"}


def test_a_second_examination_reads_no_layer_and_starts_no_container(client, examined, good):
    examined(good)
    steps = []
    started = time.perf_counter()
    check(examined(good, steps))
    assert time.perf_counter() - started < 1
    assert steps == ["reading the image's configuration"]


def test_only_layers_that_are_not_known_are_examined(examined, good, build, monkeypatch):
    examined(good)
    image = build(GOOD + "COPY settings /opt/more\n", [("settings", b"a = 1\n")])
    read = []

    def counted(*args, **options):
        record = examine_layer(*args, **options)
        read.append(record.uncompressed)
        return record

    monkeypatch.setattr(examination, "examine_layer", counted)
    steps = []
    result = examined(image, steps)
    check(result)
    assert "examining 1 of 3 layers" in steps
    assert read == [result.layers[2].uncompressed]


def test_the_client_is_of_use_after_layers_were_left_unread(client, examined, good):
    examined(good)
    assert client.ping()


def test_the_registrys_own_size_of_a_layer_is_used(client, examined, good):
    diff_ids = client.api.inspect_image(good)["RootFS"]["Layers"]
    sizes = {diff_ids[0]: 12_345, diff_ids[1]: 678}
    result = examined(good, registry_sizes=sizes)
    assert (result.compressed, result.estimated) == (13_023, False)
    partly = examined(good, registry_sizes={diff_ids[0]: 12_345})
    assert partly.layers[0].compressed == 12_345
    assert partly.estimated


def test_an_image_beyond_the_limit_is_a_problem(examined, good):
    limits = load_limits().model_copy(update={"compressed_bytes": 1000, "refused_bytes": 1000})
    assert "OCI takes 1.0 kB" in problems(examined(good, limits=limits))["size"]


def test_secrets_too_short_to_look_for_are_said_to_be_left_out(examined, good):
    result = examined(good, known_secrets=["abc"])
    facts = {finding.check: finding.fact for finding in result.findings}
    assert "1 with fewer than 8" in facts["known secrets"]


def test_an_image_that_is_not_there_is_one_clear_error(examined):
    with pytest.raises(ImageError, match="no such image"):
        examined("falconry-test/there-is-none:1")


# A process of its own that runs an image, to be killed.
RUNNER = """
import sys
from falconry.docker_engine.connection import connect
from falconry.image.preflight.container import running_findings
list(running_findings(connect(), sys.argv[1]))
"""


def test_a_container_that_a_killed_run_did_not_start_is_removed_by_the_next(
    docker_engine, client, examined, good
):
    with stopping_at(docker_engine, b"/start ") as (host, came):
        process = subprocess.Popen(
            [sys.executable, "-c", RUNNER, good], cwd=ROOT, env={**os.environ, "DOCKER_HOST": host}
        )
        assert came.wait(30)
        process.kill()
        process.wait()
    (left,) = client.containers.list(all=True, filters={"label": LABEL})
    assert left.status == "created"
    examined(good)


def test_an_engine_that_is_gone_is_one_clear_error(client, records, good):
    import docker

    with (
        contextlib.closing(docker.DockerClient("tcp://127.0.0.1:9", version="1.41")) as gone,
        pytest.raises(MachineError),
    ):
        examine(gone, good, LayerRecords(records), lambda step, fraction: None)
