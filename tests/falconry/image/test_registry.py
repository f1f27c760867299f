"""What a registry is asked, and what its answers mean: with a password, and with OCIR's tokens."""

import dataclasses
import socket
import threading
import time
import urllib.parse
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
import requests

from falconry.docker_engine.configuration import Credentials
from falconry.docker_engine.registry_errors import TransientError
from falconry.errors import ImageError
from falconry.image.registry import RegistryClient
from local_oci.services.registry import auth
from local_oci.services.registry.auth import Action
from local_oci.services.registry.process import RegistryFiles
from tests.local_oci import registry_client

LAYERS = (b"one layer", b"another, longer layer")
LOGIN_REFUSED = "the registry does not accept the login: the token is wrong or has expired"
AT_ONCE_S = 5.0


def said(client, repository="tests/image", version="1"):
    """The one sentence of a refusal, which must come at once."""
    started = time.monotonic()
    with pytest.raises(ImageError) as raised:
        client.digest(repository, version)
    assert time.monotonic() - started < AT_ONCE_S
    assert "\n" not in str(raised.value)
    return raised.value


# --- a password -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digest(locked_registry):
    """The digest of an image that is there."""
    return locked_registry.push("tests/image", "1", *LAYERS)


@pytest.fixture
def client(locked_registry):
    return RegistryClient(locked_registry.host, Credentials(*locked_registry.login))


def test_an_image_is_found_by_its_tag_and_by_its_digest(client, digest):
    assert client.digest("tests/image", "1") == digest
    assert client.digest("tests/image", digest) == digest


@pytest.mark.parametrize(
    ("repository", "version"),
    [("tests/image", "2"), ("tests/none", "1"), ("tests/image", f"sha256:{64 * 'a'}")],
)
def test_what_is_not_there_is_not_found(client, digest, repository, version):
    assert client.digest(repository, version) is None
    assert client.image(repository, version) is None


def test_an_image_is_as_large_as_what_was_pushed(client, digest):
    stored = client.image("tests/image", "1")
    assert stored.digest == digest
    assert stored.layers == tuple(map(len, LAYERS))
    assert stored.size == sum(map(len, LAYERS))


def test_an_image_of_several_platforms_has_the_layers_of_the_one_that_is_asked_for(
    client, locked_registry, digest
):
    manifests = [
        {
            "mediaType": registry_client.MANIFEST_TYPE,
            "size": len(locked_registry.ask("GET", f"tests/image/manifests/{each}").content),
            "digest": each,
            "platform": {"os": "linux", "architecture": architecture},
        }
        for architecture, each in (
            ("arm64", locked_registry.push("tests/image", "arm", b"one")),
            ("amd64", digest),
        )
    ]
    kind = "application/vnd.docker.distribution.manifest.list.v2+json"
    requests.put(
        f"http://{locked_registry.host}/v2/tests/image/manifests/several",
        json={"schemaVersion": 2, "mediaType": kind, "manifests": manifests},
        headers={"content-type": kind},
        auth=locked_registry.login,
        timeout=10,
    ).raise_for_status()

    def sizes(version, platform="linux/amd64"):
        return client.layer_sizes("tests/image", version, platform)

    assert sizes("several") == sizes("1") == tuple(map(len, LAYERS))
    assert sizes("several", "linux/arm64") == (3,)
    assert sizes("several", "windows/amd64") == sizes("none") == ()


def test_an_image_says_of_itself_what_its_labels_say(client, locked_registry):
    said_of = {"org.opencontainers.image.title": "of the tests"}
    locked_registry.push("tests/labelled", "1", *LAYERS, labels=said_of)
    assert client.labels("tests/labelled", client.image("tests/labelled", "1")) == said_of
    locked_registry.push("tests/labelled", "2", *LAYERS)
    bare = client.image("tests/labelled", "2")
    assert client.labels("tests/labelled", bare) == {}
    gone = dataclasses.replace(bare, configuration=f"sha256:{64 * 'a'}")
    assert client.labels("tests/labelled", gone) == {}


def test_a_wrong_password_is_told_in_one_sentence_at_once(locked_registry, digest):
    user, password = locked_registry.login
    error = said(RegistryClient(locked_registry.host, Credentials(user, f"{password}x")))
    assert error.problem.startswith(LOGIN_REFUSED)
    assert error.where == f"{locked_registry.host}/tests/image"
    assert "docker login" in error.remedy
    assert password not in str(error)


def test_no_login_is_told_in_one_sentence_at_once(locked_registry, digest):
    error = said(RegistryClient(locked_registry.host, None))
    assert error.problem.startswith(LOGIN_REFUSED)


def test_a_registry_without_password_needs_no_login(open_registry):
    digest = open_registry.push("tests/image", "1", *LAYERS)
    assert RegistryClient(open_registry.host, None).digest("tests/image", "1") == digest


def test_a_port_that_nobody_listens_on_is_told_as_the_network(locked_registry):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    error = said(RegistryClient(host, None))
    assert isinstance(error, TransientError)
    assert error.problem.startswith("the registry cannot be reached")


def test_neither_a_proxy_nor_netrc_is_asked_for_a_registry_on_this_machine(
    client, locked_registry, digest, tmp_path, monkeypatch
):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert client.digest("tests/image", "1") == digest


# --- tokens, as OCIR has them -------------------------------------------------------------------


@pytest.fixture(scope="module")
def ocir(registry_cloud):
    """The host of the cloud's registry."""
    return (registry_cloud.directory / "registry-host").read_text()


@pytest.fixture
def stored(registry_sdk, ocir, auth_token):
    """The path and the digest of an image that is there."""
    path = f"localoci/{registry_sdk.repository().display_name}"
    login = ("localoci/local_oci", auth_token)
    return path, registry_client.RegistryClient(ocir, login).push(path, "1", *LAYERS)


def test_an_auth_token_finds_the_users_images(ocir, stored, auth_token):
    path, digest = stored
    client = RegistryClient(ocir, Credentials("localoci/local_oci", auth_token))
    assert client.digest(path, "1") == digest
    assert client.image(path, "1").layers == tuple(map(len, LAYERS))


def test_a_signed_token_finds_them_as_it_is(registry_sdk, registry_cloud, ocir, stored):
    path, digest = stored
    asked = {"service": ocir, "scope": f"repository:{path}:pull"}
    url = f"{registry_cloud.endpoint}/20180419/docker/token"
    token = requests.get(url, params=asked, auth=registry_sdk.signer, timeout=10).json()["token"]
    client = RegistryClient(ocir, Credentials("BEARER_TOKEN", token, bearer=True))
    registry_cloud.fault(kind="status", operation="get_docker_token", status=500)
    try:
        assert client.digest(path, "1") == digest  # and so no other token was asked for
    finally:
        registry_cloud.forget_faults()


@pytest.mark.parametrize("path", ["localoci/tests/none", "somebody/elses"])
def test_what_this_user_may_not_see_is_as_good_as_not_there(ocir, auth_token, path):
    client = RegistryClient(ocir, Credentials("localoci/local_oci", auth_token))
    assert client.digest(path, "1") is None


def test_a_wrong_auth_token_is_told_in_one_sentence_at_once(ocir, stored, auth_token):
    login = Credentials("localoci/local_oci", f"{auth_token}x")
    error = said(RegistryClient(ocir, login), stored[0])
    assert error.problem.startswith(LOGIN_REFUSED)
    assert "OCIR_AUTH_TOKEN" in error.remedy
    assert auth_token not in str(error)


def test_nobody_is_told_that_a_login_is_missing(ocir, stored):
    error = said(RegistryClient(ocir, None), stored[0])
    assert error.problem.startswith("the registry treats the login as anonymous")


def test_an_expired_token_is_told_as_one(registry_cloud, ocir, stored, monkeypatch):
    files = RegistryFiles(registry_cloud.directory / "registry")
    key = auth.load_or_create_key(files.key, files.certificate)
    monkeypatch.setattr(auth, "REGISTRY_TOKEN_LIFETIME", timedelta(hours=-1))
    expired = auth.TokenIssuer(key, ocir).issue("somebody", [], {Action.PULL})
    login = Credentials("BEARER_TOKEN", expired, bearer=True)
    error = said(RegistryClient(ocir, login), stored[0])
    assert error.problem.startswith(LOGIN_REFUSED)
    assert expired not in str(error)


def test_a_token_service_that_fails_is_not_told_as_a_wrong_login(
    registry_cloud, ocir, stored, auth_token
):
    registry_cloud.fault(kind="status", operation="get_docker_token", status=503)
    client = RegistryClient(ocir, Credentials("localoci/local_oci", auth_token))
    error = said(client, stored[0])
    assert isinstance(error, TransientError)
    assert error.problem.startswith("the registry failed")


# --- an identity token ------------------------------------------------------------------------


class TokenRegistry(BaseHTTPRequestHandler):
    """A registry that takes one token, which its service gives for an identity token alone."""

    forms: ClassVar[list[dict[str, list[str]]]] = []

    def do_HEAD(self):
        if self.headers["Authorization"] == "Bearer access":
            self.send_response(200)
            self.send_header("Docker-Content-Digest", "sha256:1")
        else:
            realm = f"http://{self.headers['Host']}/token"
            self.send_response(401)
            self.send_header(
                "WWW-Authenticate", f'Bearer realm="{realm}",service="s",scope="repository:a:pull"'
            )
        self.end_headers()

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        self.forms.append(urllib.parse.parse_qs(self.rfile.read(length).decode()))
        body = b'{"access_token": "access"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nothing."""


def test_an_identity_token_is_exchanged_for_an_access_token():
    with ThreadingHTTPServer(("127.0.0.1", 0), TokenRegistry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        login = Credentials("<token>", "secret", identity=True)
        client = RegistryClient(f"127.0.0.1:{server.server_port}", login)
        assert client.digest("a", "1") == "sha256:1"
        server.shutdown()
    (form,) = TokenRegistry.forms
    assert form["grant_type"] == ["refresh_token"]
    assert form["refresh_token"] == ["secret"]
    assert (form["service"], form["scope"]) == (["s"], ["repository:a:pull"])
    assert "secret" not in repr(login)
