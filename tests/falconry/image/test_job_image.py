"""The image of a build's job: copied from one real registry to another, with a layer added."""

import gzip
import io
import json
import tarfile

import pytest
import requests

from falconry.data_files import project_file
from falconry.docker_engine.images import ImageReference
from falconry.engine.toolchain import load_toolchains
from falconry.errors import ImageError
from falconry.image.registry import HostRegistry, RegistryClient
from falconry.image.registry_copy import find_source
from falconry.jobs import image as image_module
from falconry.jobs.image import JobImage, leave_out_services, locked_requirements
from falconry.settings import RegistrySettings
from tests.local_oci.registry_client import digest_of

ROW = load_toolchains().row("25.10")
INDEX = "application/vnd.oci.image.index.v1+json"
LAYERS = (gzip.compress(b"one layer"), gzip.compress(b"another"))


def packages(directory, python):
    """Two small files in place of what pip would install for the image's Python."""
    (directory / "oci").mkdir(parents=True)
    (directory / "oci" / "__init__.py").write_text(f"python = {python!r}\n")
    (directory / "oci" / "__init__.pyc").write_bytes(b"compiled")


@pytest.fixture
def ocir(locked_registry, monkeypatch):
    """A registry with a login, in OCIR's place."""
    user, password = locked_registry.login
    monkeypatch.setenv("OCIR_USERNAME", user)
    monkeypatch.setenv("OCIR_AUTH_TOKEN", password)
    return HostRegistry(RegistrySettings(host=locked_registry.host, prefix="triton"))


@pytest.fixture
def reports():
    return []


@pytest.fixture
def ensure(ocir, reports):
    """Has a job's image of a toolchain's in that registry."""

    def ensure(reference):
        return JobImage(ocir, reference, ROW, packages).ensure(
            lambda step, part: reports.append((step, part))
        )

    return ensure


def blob(registry, digest):
    return registry.ask("GET", f"triton/toolchain/blobs/{digest}").content


def test_the_image_is_the_toolchains_and_one_layer(open_registry, locked_registry, ensure, reports):
    pushed = open_registry.push("nvidia/tritonserver", "25.10", *LAYERS, labels={"a": "b"})

    reference, digest, toolchain = ensure(f"{open_registry.host}/nvidia/tritonserver:25.10")

    assert toolchain == f"{open_registry.host}/nvidia/tritonserver@{pushed}"
    name, _, tag = reference.rpartition(":")
    assert name == f"{locked_registry.host}/triton/toolchain" and tag.startswith("25.10-")
    assert locked_registry.digest("triton/toolchain", tag) == digest
    manifest = locked_registry.ask("GET", f"triton/toolchain/manifests/{tag}").json()
    *copied, added = (layer["digest"] for layer in manifest["layers"])
    assert copied == [digest_of(layer) for layer in LAYERS]
    assert [blob(locked_registry, each) for each in copied] == list(LAYERS)
    tar = gzip.decompress(blob(locked_registry, added))
    configuration = json.loads(blob(locked_registry, manifest["config"]["digest"]))
    assert configuration["config"]["Labels"] == {"a": "b"}
    assert configuration["rootfs"]["diff_ids"] == [digest_of(tar)]
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        entries = {entry.name: entry for entry in archive}
        transfer = archive.extractfile("falconry-job/transfer.py").read()
    assert transfer == project_file("engine/transfer.py").read_bytes()
    assert entries["falconry"].mode == 0o1777  # where any user of the image may work
    assert "falconry-job/packages/oci/__init__.py" in entries
    assert not [name for name in entries if name.endswith(".pyc")]
    assert ("copying the toolchain's image", 1.0) in reports

    reports.clear()
    assert ensure(f"{open_registry.host}/nvidia/tritonserver:25.10") == (
        reference,
        digest,
        toolchain,
    )
    assert [step for step, _ in reports] == ["looking for the toolchain's image"]


def test_of_several_platforms_the_clouds_is_taken(open_registry, ensure):
    pushed = open_registry.push("nvidia/several", "amd64", LAYERS[0])
    listed = [
        {"digest": digest_of(b"none"), "platform": {"os": "linux", "architecture": "arm64"}},
        {"digest": pushed, "platform": {"os": "linux", "architecture": "amd64"}},
    ]
    for each in listed:
        each |= {"mediaType": "application/vnd.docker.distribution.manifest.v2+json", "size": 9}
    content = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed[1:]})
    requests.put(
        f"http://{open_registry.host}/v2/nvidia/several/manifests/25.10",
        data=content,
        headers={"content-type": INDEX},
        timeout=10,
    ).raise_for_status()
    found = ensure(f"{open_registry.host}/nvidia/several:25.10")
    assert found[2] == f"{open_registry.host}/nvidia/several@{pushed}"
    by_index = f"{open_registry.host}/nvidia/several@{digest_of(content.encode())}"
    assert ensure(by_index) == (*found[:2], by_index)


def test_an_image_that_is_not_there_is_named(open_registry, ensure):
    with pytest.raises(ImageError, match="no such image"):
        ensure(f"{open_registry.host}/nvidia/nothing:1")


def test_an_image_beyond_a_jobs_limit_is_refused(open_registry, ensure, monkeypatch):
    monkeypatch.setattr(image_module, "MOST_BYTES", 10)
    open_registry.push("nvidia/large", "1", LAYERS[0])
    with pytest.raises(ImageError, match="a job's image may have"):
        ensure(f"{open_registry.host}/nvidia/large:1")


def test_a_layer_that_arrives_otherwise_is_not_taken(open_registry, ensure, monkeypatch):
    monkeypatch.setattr("falconry.image.registry_copy.time.sleep", lambda _: None)
    open_registry.push("nvidia/damaged", "1", b"a layer of its own")
    digest = digest_of(b"a layer of its own").removeprefix("sha256:")
    blobs = open_registry.storage / "docker/registry/v2/blobs/sha256"
    (blobs / digest[:2] / digest / "data").write_bytes(b"a layer of others!")
    with pytest.raises(ImageError):
        ensure(f"{open_registry.host}/nvidia/damaged:1")


def test_the_layers_packages_are_locked_with_their_digests():
    lines = locked_requirements().splitlines()
    names = {line.partition("==")[0] for line in lines if "==" in line}
    assert {"oci", "cryptography", "cffi", "certifi", "urllib3"} <= names
    assert "openvino" not in names
    assert all("==" in line or line.startswith("    --hash=sha256:") for line in lines)


def test_only_what_a_job_speaks_to_is_left_of_the_sdk(tmp_path):
    for name in ("core/virtual_network_client.py", "object_storage/object_storage_client.py"):
        path = tmp_path / "oci" / name
        path.parent.mkdir(parents=True)
        path.touch()
    (tmp_path / "oci" / "_vendor").mkdir()
    leave_out_services(tmp_path)
    assert {path.name for path in (tmp_path / "oci").iterdir()} == {"_vendor", "object_storage"}


def test_a_source_knows_what_its_copy_takes(open_registry):
    open_registry.push("nvidia/sized", "1", *LAYERS)
    reference = ImageReference.parse(f"{open_registry.host}/nvidia/sized:1")
    source = find_source(RegistryClient(open_registry.host, None), reference)
    assert source.size == sum(map(len, LAYERS))
