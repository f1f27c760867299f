"""The container registry: who gets which token, what it holds, and how long its process lives."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import os
import signal
import subprocess
import tarfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import jwt
import oci
import pytest
import requests
from docker.errors import APIError

from local_oci.home import Home
from local_oci.identity import load_or_create
from local_oci.services.registry import process as registry_process
from local_oci.services.registry.auth import TokenIssuer, load_or_create_key
from local_oci.services.registry.contents import Contents, Repositories
from local_oci.services.registry.process import RegistryFiles
from local_oci.services.registry.service import ContainerRegistry, RegistryLifecycle
from local_oci.services.users.store import AuthTokens
from local_oci.storage.database import Database
from tests.local_oci.registry_client import Denied, RegistryClient, digest_of
from tests.local_oci.support import (
    LocalCloud,
    Sdk,
    ask_cloud,
    processes_of,
    run_cli,
    wait_until,
)

NAMESPACE = "localoci"
TOKEN_PATH = "/20180419/docker/token"
# What users of OCIR read when they have no password, or a wrong one
# (oracle/docker-images#2551; "unknown: Unauthorized" in many a tutorial).
ANONYMOUS = "Anonymous users are only allowed read access on public repos"
UNAUTHORIZED = "Unauthorized"


@pytest.fixture(scope="module")
def host(registry_cloud: LocalCloud) -> str:
    return (registry_cloud.directory / "registry-host").read_text()


@pytest.fixture
def user_client(host: str, auth_token: str) -> RegistryClient:
    return RegistryClient(host, ("localoci/local_oci", auth_token))


@pytest.fixture
def path(registry_sdk: Sdk) -> str:
    """The path of a new repository."""
    return f"{NAMESPACE}/{registry_sdk.repository().display_name}"


def _access(cloud: LocalCloud, credentials, **query) -> dict[str, list[str]]:
    """What a token allows, by repository."""
    answer = requests.get(
        f"{cloud.endpoint}{TOKEN_PATH}", params=query, auth=credentials, timeout=10
    )
    answer.raise_for_status()
    claims = jwt.decode(answer.json()["token"], options={"verify_signature": False})
    return {entry["name"]: entry["actions"] for entry in claims["access"]}


# --- who gets a token -------------------------------------------------------------------------


def test_the_registry_says_where_tokens_are(registry_cloud: LocalCloud, host: str) -> None:
    answer = requests.get(f"http://{host}/v2/", timeout=5)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == (
        f'Bearer realm="{registry_cloud.endpoint}{TOKEN_PATH}",service="{host}"'
    )


@pytest.mark.parametrize("form", ["local_oci", "{user}", "oracleidentitycloudservice/local_oci"])
def test_an_auth_token_pushes_and_pulls(
    registry_sdk: Sdk, host: str, auth_token: str, path: str, form: str
) -> None:
    user = form.format(user=registry_sdk.config["user"])
    client = RegistryClient(host, (f"{NAMESPACE}/{user}", auth_token))
    digest = client.push(path, "1", b"layer")
    assert digest_of(client.pull(path, digest)) == digest_of(client.pull(path, "1")) == digest


def test_a_signed_request_gets_a_token_that_logs_in(
    registry_sdk: Sdk, registry_cloud: LocalCloud, host: str, path: str
) -> None:
    answer = requests.get(
        f"{registry_cloud.endpoint}{TOKEN_PATH}", auth=registry_sdk.signer, timeout=5
    ).json()
    assert answer["access_token"] == answer["token"]
    assert answer["expires_in"] >= 60  # what Docker assumes where nothing is said
    client = RegistryClient(host, ("BEARER_TOKEN", answer["token"]))
    digest = client.push(path, "1", b"layer")
    assert digest_of(client.pull(path, "1")) == digest


def test_a_signature_gets_the_token_itself_too(registry_sdk: Sdk, host: str, path: str) -> None:
    client = RegistryClient(host, registry_sdk.signer)
    assert client.push(path, "1", b"layer") == digest_of(client.pull(path, "1"))


@pytest.mark.parametrize(
    "name",
    ["elsewhere/local_oci", "localoci/somebody", "local_oci", "localoci/federated/local_oci", ""],
)
def test_a_user_that_is_not_ours_is_refused(host: str, auth_token: str, name: str) -> None:
    with pytest.raises(Denied) as denied:
        RegistryClient(host, (name, auth_token)).request("GET", "/v2/")
    assert (denied.value.status, denied.value.body["errors"][0]["message"]) == (401, UNAUTHORIZED)


@pytest.mark.parametrize(
    "authorization",
    [
        "Basic " + base64.b64encode(b"localoci/local_oci:wrong").decode(),
        "Basic " + base64.b64encode(b"BEARER_TOKEN:wrong").decode(),
        "Basic " + base64.b64encode(b"BEARER_TOKEN:").decode(),
        "Basic " + base64.b64encode(b"localoci/local_oci").decode(),
        "Basic \xff",
        "Bearer something",
        'Signature version="1",keyId="a/b/c",algorithm="rsa-sha256",headers="date",signature="a"',
    ],
)
def test_wrong_credentials_are_unauthorized(registry_cloud: LocalCloud, authorization: str) -> None:
    answer = requests.get(
        f"{registry_cloud.endpoint}{TOKEN_PATH}",
        headers={"authorization": authorization.encode("latin-1")},
        timeout=5,
    )
    assert (answer.status_code, answer.json()["errors"][0]["message"]) == (401, UNAUTHORIZED)


def test_a_token_that_a_password_got_is_no_password(
    host: str, registry_cloud: LocalCloud, auth_token: str, path: str
) -> None:
    realm = f"{registry_cloud.endpoint}{TOKEN_PATH}"
    client = RegistryClient(host, ("localoci/local_oci", auth_token))
    token = client.token(realm, {"service": host, "scope": f"repository:{path}:pull"})
    with pytest.raises(Denied) as denied:
        RegistryClient(host, ("BEARER_TOKEN", token)).pull(path, "1")
    assert denied.value.status == 401


def test_a_deleted_auth_token_is_no_password(registry_sdk: Sdk, host: str, path: str) -> None:
    with registry_sdk.auth_token() as token:
        client = RegistryClient(host, ("localoci/local_oci", token))
        client.push(path, "1", b"layer")
    with pytest.raises(Denied) as denied:
        client.pull(path, "1")
    assert denied.value.status == 401


def test_nobody_gets_a_token_that_allows_nothing(registry_cloud: LocalCloud, path: str) -> None:
    assert _access(registry_cloud, None) == {}


@pytest.mark.parametrize("action", ["pull", "push"])
def test_nobody_is_denied_what_is_private(
    host: str, user_client: RegistryClient, path: str, action: str
) -> None:
    user_client.push(path, "1", b"layer")
    nobody = RegistryClient(host, None)
    with pytest.raises(Denied) as denied:
        nobody.pull(path, "1") if action == "pull" else nobody.push(path, "2", b"layer")
    (error,) = denied.value.body["errors"]
    assert (error["code"], error["message"]) == ("DENIED", ANONYMOUS)


def test_nobody_pulls_what_is_public_and_pushes_nothing(
    registry_sdk: Sdk, host: str, user_client: RegistryClient
) -> None:
    path = f"{NAMESPACE}/{registry_sdk.repository(is_public=True).display_name}"
    digest = user_client.push(path, "1", b"layer")
    nobody = RegistryClient(host, None)
    assert digest_of(nobody.pull(path, "1")) == digest
    with pytest.raises(Denied):
        nobody.push(path, "2", b"layer")


# --- what a token allows ----------------------------------------------------------------------


def test_a_token_allows_what_was_asked_for(
    registry_sdk: Sdk, registry_cloud: LocalCloud, host: str, auth_token: str
) -> None:
    one, two = (f"{NAMESPACE}/{registry_sdk.repository().display_name}" for _ in range(2))
    asked = [f"repository:{one}:pull", f"repository:{two}:push,pull"]
    allowed = {one: ["pull"], two: ["pull", "push"]}
    credentials = ("localoci/local_oci", auth_token)
    for scope in (asked, " ".join(asked)):
        query = {"account": "a", "client_id": "docker", "offline_token": "true", "service": host}
        assert _access(registry_cloud, credentials, scope=scope, **query) == allowed


@pytest.mark.parametrize(
    "scope",
    [
        "repository:elsewhere/{name}:pull,push",
        "repository:localoci/{name}:delete,*",
        "repository:localoci/{name}@sha256:0:pull",
        "repository:localoci/../{name}:push",
        "repository:localoci/none-{name}:pull",
        "repository(plugin):localoci/{name}:pull",
        "registry:catalog:*",
        "nonsense",
        "",
    ],
)
def test_what_is_not_the_users_is_not_allowed(
    registry_sdk: Sdk, registry_cloud: LocalCloud, auth_token: str, scope: str
) -> None:
    scope = scope.format(name=registry_sdk.repository().display_name)
    assert _access(registry_cloud, ("localoci/local_oci", auth_token), scope=scope) == {}


def test_a_token_to_pull_does_not_push(
    registry_cloud: LocalCloud, host: str, path: str, auth_token
):
    client = RegistryClient(host, ("localoci/local_oci", auth_token))
    realm = f"{registry_cloud.endpoint}{TOKEN_PATH}"
    token = client.token(realm, {"service": host, "scope": f"repository:{path}:pull"})
    answer = requests.post(
        f"http://{host}/v2/{path}/blobs/uploads/",
        headers={"authorization": f"Bearer {token}"},
        timeout=5,
    )
    assert answer.status_code == 401


def test_a_first_push_makes_a_repository_in_the_root_compartment(
    registry_sdk: Sdk, user_client: RegistryClient
) -> None:
    name = f"first/{uuid.uuid4().hex}"
    user_client.push(f"{NAMESPACE}/{name}", "1", b"layer")
    (made,) = registry_sdk.artifacts.list_container_repositories(
        registry_sdk.config["tenancy"], display_name=name
    ).data.items
    assert (made.image_count, made.is_public) == (1, False)


def test_a_first_push_can_be_denied(registry_sdk: Sdk, user_client: RegistryClient) -> None:
    def configure(created: bool) -> None:
        registry_sdk.artifacts.update_container_configuration(
            registry_sdk.compartment,
            oci.artifacts.models.UpdateContainerConfigurationDetails(
                is_repository_created_on_first_push=created
            ),
        )

    name = f"first/{uuid.uuid4().hex}"
    configure(False)
    try:
        with pytest.raises(Denied) as denied:
            user_client.push(f"{NAMESPACE}/{name}", "1", b"layer")
    finally:
        configure(True)
    assert denied.value.status == 401
    found = registry_sdk.artifacts.list_container_repositories(
        registry_sdk.compartment, display_name=name
    )
    assert found.data.items == []


def test_a_token_can_be_made_to_fail(
    registry_cloud: LocalCloud, user_client: RegistryClient, path: str
) -> None:
    user_client.push(path, "1", b"layer")
    for fault in ({"operation": "get_docker_token"}, {"path": "*/docker/token"}):
        registry_cloud.fault(kind="status", status=401, code="NotAuthenticated", **fault)
        with pytest.raises(Denied) as denied:
            user_client.pull(path, "1")
        assert denied.value.status == 401
        assert user_client.pull(path, "1")


def test_nothing_secret_is_written_down(
    registry_cloud: LocalCloud, host: str, auth_token: str, path: str, registry_sdk: Sdk
) -> None:
    bearer = requests.get(
        f"{registry_cloud.endpoint}{TOKEN_PATH}", auth=registry_sdk.signer, timeout=5
    ).json()["token"]
    for credentials in (("localoci/local_oci", auth_token), ("BEARER_TOKEN", bearer)):
        RegistryClient(host, credentials).push(path, "1", b"layer")
    with pytest.raises(Denied):
        RegistryClient(host, ("localoci/local_oci", f"{auth_token}x")).pull(path, "1")
    log = registry_cloud.directory.parent / f"{registry_cloud.directory.name}.log"
    for file in (*registry_cloud.directory.rglob("*"), log):
        content = b"" if file.is_dir() else file.read_bytes()
        assert auth_token.encode() not in content, file
        assert bearer.encode() not in content, file
    for secret in ("key.pem", "config.yml"):
        assert (registry_cloud.directory / "registry" / secret).stat().st_mode & 0o777 == 0o600


# --- what other services ask ------------------------------------------------------------------


@pytest.fixture
def registry(registry_cloud: LocalCloud, host: str) -> Iterator[ContainerRegistry]:
    """What the running cloud's services have as `cloud.registry`."""
    home = Home(registry_cloud.directory)
    files = RegistryFiles(home.registry)
    database = Database(home.database)
    yield ContainerRegistry(
        host,
        load_or_create(home),
        Repositories(database),
        AuthTokens(database),
        Contents(files.storage),
        TokenIssuer(load_or_create_key(files.key, files.certificate), host),
    )
    database.close()


def test_the_digest_of_an_image_is_known(
    registry: ContainerRegistry, user_client: RegistryClient, host: str, path: str
) -> None:
    digest = user_client.push(path, "1", b"layer")

    def digest_at(reference: str) -> str | None:
        return asyncio.run(registry.digest_of(reference))

    assert digest_at(f"{host}/{path}:1") == digest
    assert digest_at(f"{host}/{path}@{digest}") == digest
    assert digest_at(f"{host}/{path}:1@{digest}") == digest
    other = digest_of(b"something else")
    for absent in (
        f"{host}/{path}:2",
        f"{host}/{path}",  # no tag is the tag "latest"
        f"{host}/{path}:1@{other}",
        f"{host}/{path}-none:1",
        f"127.0.0.1:1/{path}:1",
        f"{path}:1",
        f"{host}/elsewhere/{path}:1",
        "",
    ):
        assert digest_at(absent) is None


def test_the_login_of_a_deployment_pulls_and_does_not_push(
    registry: ContainerRegistry, user_client: RegistryClient, host: str, path: str
) -> None:
    digest = user_client.push(path, "1", b"layer")
    login = registry.login()
    assert login["username"] == "BEARER_TOKEN"
    client = RegistryClient(host, (login["username"], login["password"]))
    assert digest_of(client.pull(path, digest)) == digest
    with pytest.raises(Denied):
        client.push(path, "2", b"layer")


# --- the process ------------------------------------------------------------------------------


@pytest.fixture
def directory(docker_registry: Path, tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "d"
    run_cli("stop", f"--directory={tmp_path / 'd'}")


def _start(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_cli("start", f"--directory={directory}", *arguments)


def _registry_processes(directory: Path) -> list[int]:
    program = b"docker-registry\0serve\0" + os.fsencode(directory / "registry")
    commands = {pid: Path(f"/proc/{pid}/cmdline") for pid in processes_of(directory)}
    return [pid for pid, file in commands.items() if program in file.read_bytes()]


def _answers(host: str) -> bool:
    with contextlib.suppress(requests.RequestException):
        return requests.get(f"http://{host}/v2/", timeout=5).status_code == 401
    return False


def test_a_registry_comes_back_with_its_cloud_at_the_same_address(directory: Path) -> None:
    assert _start(directory, "--registry").returncode == 0
    host = (directory / "registry-host").read_text()
    assert _answers(host)
    assert run_cli("stop", f"--directory={directory}").returncode == 0
    assert not processes_of(directory)
    assert not (directory / "registry-host").exists()
    assert _start(directory).returncode == 0  # not asked for, but this home has one
    assert (directory / "registry-host").read_text() == host
    assert _answers(host)


def test_a_cloud_has_no_registry_unless_one_is_asked_for(directory: Path) -> None:
    endpoint = _start(directory).stdout.strip()
    assert not (directory / "registry-host").exists()
    assert requests.get(f"{endpoint}{TOKEN_PATH}", timeout=5).status_code == 501


def test_a_cloud_that_runs_can_be_given_a_registry(directory: Path) -> None:
    endpoint = _start(directory).stdout
    assert _start(directory, "--registry").stdout == endpoint
    host = (directory / "registry-host").read_text()
    (registry,) = _registry_processes(directory)
    assert _start(directory, "--registry").stdout == endpoint
    assert (directory / "registry-host").read_text() == host
    assert _registry_processes(directory) == [registry]


def test_a_registry_does_not_outlive_a_killed_cloud(directory: Path) -> None:
    _start(directory, "--registry")
    (registry,) = _registry_processes(directory)
    (server,) = set(processes_of(directory)) - {registry}
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: not processes_of(directory))
    host = (directory / "registry" / "port").read_text()
    assert _start(directory).returncode == 0
    assert (directory / "registry-host").read_text() == f"127.0.0.1:{host}"


def test_a_registry_that_is_killed_comes_back(directory: Path) -> None:
    _start(directory, "--registry")
    host = (directory / "registry-host").read_text()
    (registry,) = _registry_processes(directory)
    os.kill(registry, signal.SIGKILL)
    wait_until(lambda: set(_registry_processes(directory)) - {registry})
    wait_until(lambda: (directory / "registry-host").exists())
    assert (directory / "registry-host").read_text() == host
    assert _answers(host)
    assert (
        "docker-registry ended with status -9 and is started again"
        in (directory / "log").read_text()
    )


def test_a_registry_that_is_stopped_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_process, "_CHECK_SECONDS", 0.1)
    monkeypatch.setattr(registry_process, "_ANSWER_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(registry_process, "_STOP_TIMEOUT_SECONDS", 0.2)
    home = Home(tmp_path / "d")
    home.prepare()
    database = Database(home.database)

    async def stopped_and_replaced() -> None:
        lifecycle = RegistryLifecycle(
            *(home, "http://127.0.0.1:1", load_or_create(home)),
            *(Repositories(database), AuthTokens(database)),
        )
        await lifecycle.start()
        (stopped,) = _registry_processes(home.root)
        os.kill(stopped, signal.SIGSTOP)
        async with asyncio.timeout(20):
            while not set(_registry_processes(home.root)) - {stopped}:
                await asyncio.sleep(0.05)
            while not home.registry_host.exists():
                await asyncio.sleep(0.05)
        await lifecycle.stop()

    asyncio.run(stopped_and_replaced())
    assert _registry_processes(home.root) == []


@pytest.fixture
def without_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """Takes docker-registry off the PATH."""

    def take() -> None:
        (tmp_path / "empty").mkdir()
        monkeypatch.setenv("PATH", str(tmp_path / "empty"))

    return take


def test_a_missing_program_is_one_clear_line(
    directory: Path, without_program: Callable[[], None]
) -> None:
    without_program()
    refused = _start(directory, "--registry")
    (line,) = refused.stderr.splitlines()
    assert (refused.returncode, refused.stdout) == (1, "")
    assert line == (
        "the container registry needs the program docker-registry; install it: "
        "apt-get install docker-registry"
    )
    assert not processes_of(directory)
    assert _start(directory).returncode == 0  # it never had one


def test_a_cloud_that_cannot_be_given_a_registry_runs_on(
    directory: Path, without_program: Callable[[], None]
) -> None:
    without_program()
    endpoint = _start(directory).stdout.strip()
    refused = _start(directory, "--registry")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "apt-get install docker-registry" in refused.stderr
    assert ask_cloud(directory, endpoint, "GET", "health").ok


def test_variables_of_the_user_do_not_configure_the_registry(
    directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("REGISTRY_AUTH", "silly")
    assert _start(directory, "--registry").returncode == 0
    (registry,) = _registry_processes(directory)
    assert Path(f"/proc/{registry}/environ").read_bytes() == b""


# --- Docker -----------------------------------------------------------------------------------


def _tiny_image() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("hello")
        entry.size = 16
        archive.addfile(entry, io.BytesIO(uuid.uuid4().bytes))
    return buffer.getvalue()


def _push(client, name: str, tag: str, auth_config: dict[str, str]) -> str:
    """Push; the digest. docker-py raises nothing of what goes wrong in the stream."""
    digest = ""
    for line in client.api.push(name, tag, stream=True, decode=True, auth_config=auth_config):
        assert "error" not in line, line["error"]
        digest = line.get("aux", {}).get("Digest", digest)
    return digest


def test_docker_pushes_with_an_auth_token_and_pulls_by_digest(
    docker_engine, registry: ContainerRegistry, auth_token: str, host: str, path: str
) -> None:
    name = f"{host}/{path}"
    password = {"username": "localoci/local_oci", "password": auth_token}
    with contextlib.closing(docker_engine.client()) as client:
        client.api.import_image_from_data(_tiny_image(), repository=name, tag="1")
        try:
            # Docker says the same after a push with a wrong password, but tries for 50 seconds.
            with pytest.raises(APIError, match=f"unknown: {UNAUTHORIZED}"):
                client.login(password["username"], "wrong", registry=host)
            with pytest.raises(AssertionError, match=f"denied: {ANONYMOUS}"):
                _push(client, name, "1", {})
            digest = _push(client, name, "1", password)
            assert digest == asyncio.run(registry.digest_of(f"{name}:1"))
        finally:
            client.images.remove(f"{name}:1", force=True)
        with pytest.raises(APIError, match=f"denied: {ANONYMOUS}"):
            client.api.pull(f"{name}@{digest}", auth_config={})
        pulled = client.images.pull(f"{name}@{digest}", auth_config=registry.login())
        try:
            assert pulled.attrs["RepoDigests"] == [f"{name}@{digest}"]
        finally:
            client.images.remove(pulled.id, force=True)
