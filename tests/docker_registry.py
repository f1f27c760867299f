"""Registries of the tests: the program docker-registry, and running ones on ephemeral ports."""

import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.debian import install
from tests.local_oci.registry_client import MANIFEST_TYPE, digest_of, manifest

_PROGRAM = "docker-registry"
_INSTALL = f"apt-get install --no-install-recommends {_PROGRAM}"
_START_DEADLINE_S = 20
# The least that bcrypt knows (crypt(5)): a registry asks for the password with each request.
_ROUNDS = 32


@dataclass(frozen=True)
class Registry:
    """A registry that answers at `host`, for everybody or for who has the login."""

    host: str
    storage: Path
    login: tuple[str, str] | None = None

    def ask(self, method, path):
        """The answer to a request for something below `/v2/`, with the login."""
        headers = {"accept": MANIFEST_TYPE}
        return requests.request(
            method, f"http://{self.host}/v2/{path}", headers=headers, auth=self.login, timeout=10
        )

    def digest(self, repository, version):
        """The digest of a tag's manifest; None where there is none."""
        answer = self.ask("HEAD", f"{repository}/manifests/{version}")
        return answer.headers["docker-content-digest"] if answer.ok else None

    def push(self, repository, tag, *layers, labels=None):
        """Pushes an image of some layers; gives its digest."""
        platform = {"architecture": "amd64", "os": "linux"}
        config = json.dumps({**platform, "config": {"Labels": labels}}).encode()
        for blob in (config, *layers):
            begun = self.ask("POST", f"{repository}/blobs/uploads/").headers["location"]
            requests.put(
                begun, params={"digest": digest_of(blob)}, data=blob, auth=self.login, timeout=10
            ).raise_for_status()
        content = manifest(config, *layers)
        requests.put(
            f"http://{self.host}/v2/{repository}/manifests/{tag}",
            data=content,
            headers={"content-type": MANIFEST_TYPE},
            auth=self.login,
            timeout=10,
        ).raise_for_status()
        return digest_of(content)


@pytest.fixture(scope="session")
def docker_registry():
    """The path of docker-registry; skips, and says what to install, where it cannot be had."""
    if not shutil.which(_PROGRAM):
        if os.geteuid() != 0:
            pytest.skip(f"{_PROGRAM} is not installed; as root: {_INSTALL}")
        install(_PROGRAM)
    program = shutil.which(_PROGRAM)
    if program is None:
        pytest.skip(f"{_PROGRAM} could not be installed; try {_INSTALL}")
    return Path(program)


@pytest.fixture(scope="session")
def open_registry(docker_registry, tmp_path_factory):
    """A registry without a password."""
    with running_registry(docker_registry, tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture(scope="session")
def locked_registry(docker_registry, tmp_path_factory):
    """A registry that asks for a password."""
    login = ("jane", secrets.token_hex(12))
    directory = tmp_path_factory.mktemp("registry")
    with running_registry(docker_registry, directory, login) as registry:
        yield registry


@contextlib.contextmanager
def running_registry(program, directory, login=None):
    """A registry that keeps its images in a directory."""
    storage, log, configuration = (directory / name for name in ("images", "log", "config.yml"))
    configuration.write_text(
        "version: 0.1\n"
        "http: {addr: '127.0.0.1:0'}\n"
        "storage:\n"
        f"  filesystem: {{rootdirectory: '{storage}'}}\n"
        "  delete: {enabled: true}\n" + (_authentication(directory, *login) if login else "")
    )
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, "serve", configuration], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield Registry(_host(process, log), storage, login)
    finally:
        process.terminate()
        process.wait(10)


def _authentication(directory, user, password):
    """Distribution takes bcrypt alone (docs/configuration.md, `htpasswd`)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.13 has it no more
        import crypt
    salt = crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=_ROUNDS)
    users = directory / "htpasswd"
    users.write_text(f"{user}:{crypt.crypt(password, salt)}\n")
    return f"auth:\n  htpasswd: {{realm: tests, path: '{users}'}}\n"


def _host(process, log):
    deadline = time.monotonic() + _START_DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"listening on (127\.0\.0\.1:\d+)", log.read_text()):
            return found[1]
        time.sleep(0.02)
    raise AssertionError(f"the registry did not start: {log.read_text()[-2000:]}")
