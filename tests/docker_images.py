"""The server images of the tests: built once by the Docker engine, kept by their content."""

import contextlib
import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import pytest
from docker.errors import ImageNotFound

from tests.kept import kept

ROOT = Path(__file__).parents[1]
CONTRACT_REPOSITORY = "/opt/ds/model/deployed_model/model_repository"
_BASE = "falconry-base:bookworm"
_STAND_IN = Path(__file__).parent / "docker" / "stand_in_trtllm"
_HOST_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_READY_DEADLINE_S = 90


@pytest.fixture(scope="session")
def docker_client(docker_engine):
    """A client of the Docker engine for the whole session."""
    with contextlib.closing(docker_engine.client(timeout_s=600)) as client:
        yield client


@pytest.fixture(scope="session")
def base_image(docker_engine, docker_client):
    """The Debian base that scripts/base_image.sh makes."""
    if os.geteuid() != 0 or shutil.which("docker") is None:
        pytest.skip("scripts/base_image.sh needs root and the docker command")

    def make():
        made = run_base_image_script(docker_engine.host, _BASE)
        assert made.returncode == 0, made.stderr

    script = (ROOT / "scripts/base_image.sh").read_bytes()
    load_or_make(docker_client, "base", _BASE, hashlib.sha256(script).hexdigest()[:12], make)
    return _BASE


@pytest.fixture(scope="session")
def private_ca_marker():
    """A comment inside the certificate bundle that images are built with, to look for in layers."""
    return "# falconry test: this bundle belongs into no image"


@pytest.fixture(scope="session")
def cpu_image(docker_client, base_image, private_ca_marker):
    """The CPU server image."""
    files = build_context("triton-cpu", private_ca_marker)
    return built(docker_client, "falconry-test/triton-cpu", files, base_image)


@pytest.fixture(scope="session")
def stand_in_trtllm_image(docker_client, base_image):
    """A stand-in for NVIDIA's image with TensorRT-LLM."""
    files = {
        str(path.relative_to(_STAND_IN)): path.read_bytes()
        for path in _STAND_IN.rglob("*")
        if path.is_file()
    }
    return built(docker_client, "falconry-test/stand-in-trtllm", files, base_image)


@pytest.fixture(scope="session")
def private_ca_bundle(private_ca_marker, tmp_path_factory):
    """A certificate bundle as private networks have one: this machine's own, marked."""
    path = tmp_path_factory.mktemp("certificates") / "ca.crt"
    path.write_bytes(certificate_bundle(private_ca_marker))
    return path


def certificate_bundle(marker):
    """This machine's certificates, and a marker by which they can be found again."""
    return f"{marker}\n".encode() + _HOST_CERTIFICATES.read_bytes()


def run_base_image_script(host, *arguments):
    """Runs scripts/base_image.sh against an engine."""
    return subprocess.run(
        ["sh", ROOT / "scripts/base_image.sh", *arguments],
        env={**os.environ, "DOCKER_HOST": host},
        capture_output=True,
        text=True,
        check=False,
    )


def build_context(kind, marker):
    """The files of a build context by their name, for `triton-cpu` or `triton-trtllm`."""
    docker = ROOT / "docker"
    files = {
        "Dockerfile": (docker / f"{kind}.Dockerfile").read_bytes(),
        "requirements.txt": _pinned(docker / f"{kind}.packages").encode(),
        "certificates/ca.crt": certificate_bundle(marker),
    }
    for source in sorted((docker / "server").rglob("*.py")):
        files[source.relative_to(docker).as_posix()] = source.read_bytes()
    return files


def built(client, repository, files, base):
    """The tag of an image built from a context, unless the engine has it already."""
    known = hashlib.sha256(client.images.get(base).id.encode())
    for name, content in sorted(files.items()):
        known.update(f"{name} {len(content)}\n".encode() + content)
    digest = known.hexdigest()[:12]
    tag = f"{repository}:{digest}"

    def build():
        client.images.build(
            fileobj=archive(files),
            custom_context=True,
            tag=tag,
            buildargs={"BASE": base},
            forcerm=True,  # of a failed step too
        )

    load_or_make(client, repository.rpartition("/")[2], tag, digest, build)
    return tag


def load_or_make(client, name, tag, digest, make):
    """Gives the engine an image: the one that an earlier run made, or a new one."""

    def make_and_save(directory):
        make()
        with (directory / "image.tar").open("wb") as saved:
            saved.writelines(client.images.get(tag).save(named=tag))

    def has_it():
        with contextlib.suppress(ImageNotFound):
            return client.images.get(tag)

    if not has_it():
        directory = kept(f"image-{name}", digest, make_and_save)
        if not has_it():
            (saved,) = directory.iterdir()
            with saved.open("rb") as content:
                client.images.load(content)


def remove_images_of(client, registry):
    """Takes the names that begin with a registry's host from the engine's images."""
    for image in client.images.list():
        for name in [*image.tags, *image.attrs["RepoDigests"]]:
            if name.startswith(f"{registry}/"):
                with contextlib.suppress(ImageNotFound):  # it went with the last tag
                    client.images.remove(name)


def archive(files):
    """A tar of files by their name, with (content, mode) or content; programs are executable."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        for name, given in sorted(files.items()):
            usual = (given, 0o755 if "bin/" in name else 0o644)
            content, mode = given if isinstance(given, tuple) else usual
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    output.seek(0)
    return output


@contextlib.contextmanager
def container(client, image, *words, repository=None, **options):
    """A container of a server image as strict as the service may be; removed in the end."""
    volumes = {str(repository): {"bind": CONTRACT_REPOSITORY, "mode": "ro"}} if repository else {}
    started = client.containers.run(
        image,
        list(words) or None,
        detach=True,
        read_only=True,
        tmpfs={"/tmp": ""},
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        volumes=volumes,
        **options,
    )
    try:
        yield started
    finally:
        started.remove(force=True)


def curl(running, path, *arguments):
    """What curl prints inside the container, by the port of the contract."""
    code, output = running.exec_run(
        ["curl", "--silent", "--fail", *arguments, f"http://127.0.0.1:8000{path}"]
    )
    return output.decode() if code == 0 else None


def wait_until_ready(running):
    """Waits until the server is ready; gives the seconds that it took."""
    started = time.monotonic()
    while time.monotonic() < started + _READY_DEADLINE_S:
        if curl(running, "/v2/health/ready") is not None:
            return time.monotonic() - started
        running.reload()
        if running.status == "exited":
            break
        time.sleep(0.5)  # each look is a process in the container: a tenth of a second's work
    raise AssertionError(f"the server did not start:\n{running.logs().decode()[-5000:]}")


def stop(running, within_s=15):
    """Stops a container as `docker stop` does; gives its status and the seconds that it took."""
    started = time.monotonic()
    running.stop(timeout=within_s)
    return running.wait()["StatusCode"], time.monotonic() - started


def _pinned(names):
    """The rows of requirements.lock for the packages that a file names."""
    lock = (ROOT / "requirements.lock").read_text()
    rows = dict(re.findall(r"^([a-z0-9-]+)(==.*(?:\n    --hash=.*)*)", lock, re.MULTILINE))
    wanted = [line.partition("#")[0].strip() for line in names.read_text().splitlines()]
    return "".join(f"{name}{rows[name]}\n" for name in wanted if name)
