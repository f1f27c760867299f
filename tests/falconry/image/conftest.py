"""Tiny images to push, and logins as `docker login` leaves them."""

import base64
import json
import secrets

import pytest

from tests.docker_images import archive


@pytest.fixture(scope="module")
def tiny_image(docker_client):
    """Makes an image of some small layers that nobody has; it is removed in the end."""
    made = []

    def make(reference, layers=2):
        files = {f"layer{number}": secrets.token_bytes(64) for number in range(layers)}
        lines = ["FROM scratch", *(f"COPY {name} /{name}" for name in files)]
        context = archive({"Dockerfile": "\n".join(lines).encode(), **files})
        docker_client.images.build(fileobj=context, custom_context=True, tag=reference, rm=True)
        made.append(reference)
        return reference

    yield make
    for reference in made:
        docker_client.images.remove(reference, force=True)


@pytest.fixture
def docker_login(tmp_path, monkeypatch):
    """Writes the configuration that `docker login` would, and nothing else is found."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for name in ("OCIR_AUTH_TOKEN", "OCIR_USERNAME"):
        monkeypatch.delenv(name, raising=False)

    def login(host, user, password):
        word = base64.b64encode(f"{user}:{password}".encode()).decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {host: {"auth": word}}}))

    return login
