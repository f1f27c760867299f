"""The door to the Docker engine, with a real engine and a stand-in registry."""

import contextlib
import gzip
import hashlib
import http.server
import io
import json
import os
import tarfile
import threading

import pytest

from falconry.docker_engine.client import can_see_gpus, connect
from falconry.docker_engine.images import (
    LayerProgress,
    has_image,
    image_digest,
    pull,
    reference_with_digest,
)
from falconry.errors import ImageError, MachineError


@pytest.fixture(scope="module")
def client(docker_engine):
    with contextlib.closing(docker_engine.client()) as client:
        yield client


class Registry:
    """A stand-in registry, as much of distribution's HTTP API V2 as a pull needs."""

    def __init__(self, refusal=None):
        layers = [self._layer(number) for number in range(3)]
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {},
                "rootfs": {
                    "type": "layers",
                    "diff_ids": [_digest(gzip.decompress(layer)) for layer in layers],
                },
            }
        ).encode()
        self.blobs = {_digest(blob): blob for blob in (config, *layers)}
        kind = "application/vnd.docker.{}"
        self.kind = kind.format("distribution.manifest.v2+json")
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": self.kind,
                "config": self._entry(kind.format("container.image.v1+json"), config),
                "layers": [
                    self._entry(kind.format("image.rootfs.diff.tar.gzip"), layer)
                    for layer in layers
                ],
            }
        ).encode()
        self.digest = _digest(self.manifest)
        self.refusal = refusal

    @staticmethod
    def _layer(number):
        tree = io.BytesIO()
        with tarfile.open(fileobj=tree, mode="w") as archive:
            member = tarfile.TarInfo(f"file{number}")
            member.size = 1 << 20
            archive.addfile(member, io.BytesIO(os.urandom(1 << 20)))
        return gzip.compress(tree.getvalue(), 1)

    @staticmethod
    def _entry(kind, blob):
        return {"mediaType": kind, "size": len(blob), "digest": _digest(blob)}

    def answer(self, path):
        if self.refusal:
            status, code = self.refusal
            return status, "application/json", json.dumps({"errors": [{"code": code}]}).encode()
        if path == "/v2/":
            return 200, "application/json", b"{}"
        last = path.rpartition("/")[2]
        if "/manifests/" in path:
            return 200, self.kind, self.manifest
        return 200, "application/octet-stream", self.blobs[last]


def _digest(blob):
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


@contextlib.contextmanager
def serving(registry):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, kind, body = registry.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
            self.send_header("Docker-Content-Digest", registry.digest)
            self.end_headers()
            self.wfile.write(body if self.command == "GET" else b"")

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_an_image_is_pulled_with_its_progress_and_has_its_digest(client):
    registry = Registry()
    fractions = []
    with serving(registry) as host:
        reference = f"{host}/nvidia/tritonserver:25.10@{registry.digest}"
        assert not has_image(client, reference)
        pull(client, reference, fractions.append)
    try:
        assert has_image(client, reference)
        assert image_digest(client, reference) == registry.digest
        assert reference_with_digest(client, reference) == reference
    finally:
        client.images.remove(reference.replace(":25.10", ""), force=True)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_a_tag_gets_its_digest(client):
    registry = Registry()
    with serving(registry) as host:
        reference = f"{host}/nvidia/tritonserver:25.10"
        pull(client, reference, lambda done: None)
    assert reference_with_digest(client, reference) == f"{reference}@{registry.digest}"
    client.images.remove(reference, force=True)


@pytest.mark.parametrize(
    ("refusal", "remedy"),
    [
        ((401, "UNAUTHORIZED"), "docker login"),
        ((403, "DENIED"), "docker login"),
        ((404, "MANIFEST_UNKNOWN"), "check the image's name and tag"),
        ((503, "UNAVAILABLE"), "check the network"),
    ],
)
def test_a_registry_s_refusal_is_told_with_what_to_do(client, refusal, remedy):
    with serving(Registry(refusal)) as host:
        reference = f"{host}/nvidia/absent:1"
        with pytest.raises(ImageError, match="cannot be pulled") as raised:
            pull(client, reference, lambda done: None)
    assert raised.value.where == reference
    assert remedy in raised.value.remedy


def test_a_registry_that_does_not_answer_is_told(client):
    with pytest.raises(ImageError, match="cannot be pulled") as raised:
        pull(client, "127.0.0.1:1/absent:1", lambda done: None)
    assert "check the network" in raised.value.remedy


def test_the_share_of_an_image_counts_layers_of_unknown_size_as_average_ones():
    layers = LayerProgress()
    for layer in "abcd":
        layers.fraction_after({"id": layer, "status": "Pulling fs layer", "progressDetail": {}})

    def downloading(layer, current):
        detail = {"current": current, "total": 100}
        return {"id": layer, "status": "Downloading", "progressDetail": detail}

    assert layers.fraction_after(downloading("a", 100)) == 0.25
    assert layers.fraction_after(downloading("b", 50)) == 0.375
    assert layers.fraction_after({"id": "b", "status": "Download complete"}) == 0.5


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            "Get https://name:word@registry.test/v2/: denied",
            "Get https://registry.test/v2/: denied",
        ),
        ("dial tcp: i/o timeout.", "dial tcp: i/o timeout"),
    ],
)
def test_a_registry_s_words_are_told_without_credentials(error, told):
    class Api:
        def pull(self, *_, **__):
            yield {"error": error}

    class Client:
        api = Api()

    with pytest.raises(ImageError) as raised:
        pull(Client(), "registry.test/a:1", lambda done: None)
    assert raised.value.problem.startswith("the image cannot be pulled: ")
    assert raised.value.problem.endswith(f" ({told})")


class Informed:
    """A client of an engine that says this of itself."""

    def __init__(self, **info):
        self.info = lambda: info


# What engines say: the API's reference, /info, versions 1.41 (Runtimes) and 1.50 (CDI).
@pytest.mark.parametrize(
    ("info", "sees"),
    [
        ({"Runtimes": {"runc": {}, "nvidia": {}}}, True),
        ({"Runtimes": {"runc": {}}}, False),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]}, True),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "vendor.test/device=0"}]}, False),
        ({"DiscoveredDevices": None, "CDISpecDirs": []}, False),
    ],
)
def test_an_engine_with_nvidia_s_runtime_or_devices_has_gpus_to_give(info, sees, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert can_see_gpus(Informed(**info)) is sees


def test_nvidia_s_device_specifications_on_this_machine_count(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    client = Informed(CDISpecDirs=[str(tmp_path), "/absent"])
    assert not can_see_gpus(client)
    (tmp_path / "nvidia.yaml").write_text("cdiVersion: 0.5.0\nkind: nvidia.com/gpu\n")
    assert can_see_gpus(client)


def test_the_hook_that_gpus_need_counts(tmp_path, monkeypatch):
    hook = tmp_path / "nvidia-container-runtime-hook"
    hook.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert can_see_gpus(Informed(Runtimes={"runc": {}}))


@pytest.mark.parametrize("host", ["unix:///nowhere/s.sock", "tcp://127.0.0.1:1"])
def test_no_engine_is_one_line(host, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(MachineError, match="no Docker engine answers") as raised:
        connect()
    assert "DOCKER_HOST" in raised.value.remedy


def test_an_address_that_is_none_is_one_line(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "nonsense://x")
    with pytest.raises(MachineError, match="nonsense://x") as raised:
        connect()
    assert raised.value.where == "DOCKER_HOST"
    assert "correct the engine's address" in raised.value.remedy
