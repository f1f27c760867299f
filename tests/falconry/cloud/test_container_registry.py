"""OCIR's names and logins, which need no network, and repositories made in local_oci."""

import json
import secrets
import socket
import uuid

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from falconry.cloud.retries import all_records
from falconry.cloud.session import Session
from falconry.cloud.work_requests import Watch
from falconry.deployment.tagged import remove_tagged
from falconry.docker_engine.registry_errors import TransientError
from falconry.errors import CloudError, ImageError
from falconry.image.ocir import OcirProvider
from falconry.settings import CloudSettings, EmulatorSettings, RegistrySettings

TENANCY = "ocid1.tenancy.oc1..aaaaaaaaexample"


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    for name in ("OCIR_REGION", "OCIR_NAMESPACE", "OCIR_AUTH_TOKEN", "OCIR_USERNAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("there is no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    """An OCI configuration as a user in Frankfurt has one."""
    directory = tmp_path_factory.mktemp("oci")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (directory / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    fields = {
        "user": "ocid1.user.oc1..aaaaaaaaexample",
        "tenancy": TENANCY,
        "fingerprint": ":".join(16 * ["ab"]),
        "key_file": directory / "key.pem",
        "region": "eu-frankfurt-1",
    }
    lines = ["[DEFAULT]", *(f"{name}={value}" for name, value in fields.items())]
    (directory / "config").write_text("\n".join(lines))
    return directory / "config"


@pytest.fixture
def ocir(config_file, tmp_path):
    """Oracle's own registry, with settings of the test's."""

    def open_with(**settings):
        cloud = CloudSettings(config_file=config_file, project="p", log_group="g", log="l")
        registry = RegistrySettings(prefix="oci-datascience-triton-server", **settings)
        door = OcirProvider(cloud, registry, tmp_path / "namespaces")
        assert door.is_available()
        return door.connect()

    return open_with


# --- names ------------------------------------------------------------------------------------

# Oracle's list, "Availability by Region" of Container Registry: the keys of these regions.
FRANKFURT, ASHBURN = "fra.ocir.io", "iad.ocir.io"


@pytest.mark.parametrize(
    ("variable", "setting", "host"),
    [
        (None, None, FRANKFURT),
        (None, "us-ashburn-1", ASHBURN),
        (None, "iad", ASHBURN),
        ("iad", None, ASHBURN),
        ("us-ashburn-1", None, ASHBURN),
        ("iad", "eu-frankfurt-1", ASHBURN),
        (None, "IAD", ASHBURN),
        # A region that the SDK does not know is in the commercial realm, with no known key.
        ("xx-nowhere-1", None, "ocir.xx-nowhere-1.oci.oraclecloud.com"),
        # Realms and their domains: oci 2.189.0, regions.py. The first is seen in documents.
        (None, "eu-frankfurt-2", "ocir.eu-frankfurt-2.oci.oraclecloud.eu"),
        (None, "str", "ocir.eu-frankfurt-2.oci.oraclecloud.eu"),
        (None, "us-gov-ashburn-1", "ocir.us-gov-ashburn-1.oci.oraclegovcloud.com"),
        ("uk-gov-london-1", None, "ocir.uk-gov-london-1.oci.oraclegovcloud.uk"),
        (None, "ap-chiyoda-1", "ocir.ap-chiyoda-1.oci.oraclecloud8.com"),
    ],
)
def test_the_host_is_named_by_the_region_and_its_realm(
    ocir, no_network, monkeypatch, variable, setting, host
):
    if variable:
        monkeypatch.setenv("OCIR_REGION", variable)
    assert ocir(region=setting).host == host


def test_a_repository_is_below_the_namespace_and_the_prefix(ocir, no_network, monkeypatch):
    named = "oci-datascience-triton-server/triton-cpu"
    assert ocir(namespace="mine").repository("triton-cpu") == f"mine/{named}"
    monkeypatch.setenv("OCIR_NAMESPACE", "axyz")
    assert ocir(namespace="mine").repository("triton-cpu") == f"axyz/{named}"


# --- logins -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "full"),
    [
        ("jane@example.com", "axyz/jane@example.com"),
        ("axyz/jane@example.com", "axyz/jane@example.com"),
        ("oracleidentitycloudservice/jane", "axyz/oracleidentitycloudservice/jane"),
    ],
)
def test_an_auth_token_logs_in_as_its_user(ocir, no_network, monkeypatch, user, full):
    monkeypatch.setenv("OCIR_AUTH_TOKEN", "its token")
    monkeypatch.setenv("OCIR_USERNAME", user)
    login = ocir(namespace="axyz", username="somebody-else").credentials("axyz/p/i")
    assert (login.username, login.password, login.bearer) == (full, "its token", False)


def test_the_profile_may_name_the_user(ocir, no_network, monkeypatch):
    monkeypatch.setenv("OCIR_AUTH_TOKEN", "its token")
    assert ocir(namespace="axyz", username="jane").credentials("axyz/p/i").username == "axyz/jane"


def test_an_auth_token_of_nobody_is_told(ocir, no_network, monkeypatch):
    monkeypatch.setenv("OCIR_AUTH_TOKEN", "its token")
    with pytest.raises(ImageError, match="but its user is not known") as raised:
        ocir(namespace="axyz").credentials("axyz/p/i")
    assert "OCIR_USERNAME" in raised.value.remedy
    assert "its token" not in str(raised.value)


@pytest.fixture
def answering(monkeypatch):
    """Lets all requests be answered alike, or fail; gives those that were made."""
    made = []

    def answer_with(status, body=b"", error=None):
        def send(adapter, request, **_):
            made.append(request)
            if error:
                raise error
            answer = requests.Response()
            answer.status_code, answer._content, answer.url = status, body, request.url
            return answer

        monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
        return made

    return answer_with


def test_without_an_auth_token_the_api_key_asks_for_a_token_to_read_with(ocir, answering):
    made = answering(200, json.dumps({"token": "a.b.c"}).encode())
    login = ocir(namespace="axyz").credentials("axyz/p/i")
    assert (login.username, login.password, login.bearer) == ("BEARER_TOKEN", "a.b.c", True)
    (request,) = made
    assert request.url == (
        "https://fra.ocir.io/20180419/docker/token"
        "?service=fra.ocir.io&scope=repository%3Aaxyz%2Fp%2Fi%3Apull"
    )
    assert request.headers["authorization"].startswith("Signature ")
    assert TENANCY in request.headers["authorization"]


@pytest.mark.parametrize(("status", "passes"), [(401, False), (429, True), (503, True)])
def test_a_token_that_is_not_given_is_told_with_the_status(ocir, answering, status, passes):
    answering(status, b"no")
    with pytest.raises(ImageError, match=f"gives no token: status {status} no") as raised:
        ocir(namespace="axyz").credentials("axyz/p/i")
    assert isinstance(raised.value, TransientError) is passes
    assert "API key" in raised.value.remedy


def test_a_token_service_that_cannot_be_reached_is_told(ocir, answering):
    answering(0, error=requests.ConnectionError("no route"))
    with pytest.raises(TransientError, match="token service cannot be reached"):
        ocir(namespace="axyz").credentials("axyz/p/i")


# --- local_oci --------------------------------------------------------------------------------


@pytest.fixture
def emulated(registry_cloud, tmp_path):
    """The emulator's registry, with settings of the test's."""

    def open_with(tags=(), **settings):
        cloud = CloudSettings(
            config_file=registry_cloud.directory / "config",
            project="p",
            log_group="g",
            log="l",
            tags=tags,
            emulator=EmulatorSettings(directory=registry_cloud.directory),
        )
        registry = RegistrySettings(prefix="tests", **settings)
        return OcirProvider(cloud, registry, tmp_path / "namespaces").connect()

    return open_with


def repositories(sdk, compartment, name):
    return sdk.artifacts.list_container_repositories(compartment, display_name=name).data.items


def test_the_emulators_registry_is_named_by_its_port_and_its_own_namespace(
    emulated, registry_cloud, monkeypatch
):
    for name in ("OCIR_REGION", "OCIR_NAMESPACE", "OCIR_AUTH_TOKEN"):
        monkeypatch.setenv(name, "oracles-own")
    place = emulated()
    assert place.host == (registry_cloud.directory / "registry-host").read_text()
    assert place.repository("image") == "localoci/tests/image"
    assert place.credentials("localoci/tests/image").username == "BEARER_TOKEN"


def test_a_missing_repository_is_made_in_the_profiles_compartment(emulated, registry_sdk):
    compartment = f"ocid1.compartment.oc1..{uuid.uuid4().hex}"
    place = emulated(compartment_id=compartment)
    name = secrets.token_hex(4)
    for _ in range(2):  # the second time it is there
        place.prepare(place.repository(name))
    (made,) = repositories(registry_sdk, compartment, f"tests/{name}")
    assert made.compartment_id == compartment
    assert made.is_public is False
    assert repositories(registry_sdk, registry_sdk.config["tenancy"], f"tests/{name}") == []


def test_without_a_compartment_it_is_made_in_the_clouds(emulated, registry_sdk):
    place, name = emulated(), secrets.token_hex(4)
    place.prepare(place.repository(name))
    assert repositories(registry_sdk, registry_sdk.config["tenancy"], f"tests/{name}")


def test_a_repository_of_another_compartment_is_used_as_it_is(emulated, registry_sdk):
    """Names are unique in a tenancy (Oracle's release note of 18 February 2021)."""
    name = secrets.token_hex(4)
    registry_sdk.repository(display_name=f"tests/{name}")
    compartment = f"ocid1.compartment.oc1..{uuid.uuid4().hex}"
    place = emulated(compartment_id=compartment)
    place.prepare(place.repository(name))
    assert repositories(registry_sdk, compartment, f"tests/{name}") == []


def test_the_pages_of_a_collection_are_read_whole(registry_sdk):
    names = {registry_sdk.repository().display_name for _ in range(3)}
    list_repositories = registry_sdk.artifacts.list_container_repositories
    found = all_records(list_repositories, registry_sdk.compartment, limit=1)
    assert names <= {each.display_name for each in found}
    assert len({each.id for each in found}) == len(found)


def test_it_has_the_profiles_tags_and_is_removed_by_them(emulated, registry_sdk, registry_cloud):
    run, name = f"trial-{secrets.token_hex(4)}", secrets.token_hex(4)
    emulated(tags=(f"falconry-prove={run}",)).prepare(f"localoci/tests/{name}")
    tenancy = registry_sdk.config["tenancy"]
    (made,) = repositories(registry_sdk, tenancy, f"tests/{name}")
    cloud = CloudSettings(
        config_file=registry_cloud.directory / "config",
        project="p",
        log_group="g",
        log="l",
        emulator=EmulatorSettings(directory=registry_cloud.directory),
    )
    watch = Watch(60, lambda step, fraction: None)
    (removed,) = remove_tagged(Session(cloud), "falconry-prove", run, watch)
    assert (removed.kind, removed.id, removed.problem) == ("container repository", made.id, None)
    assert repositories(registry_sdk, tenancy, f"tests/{name}") == []


def test_another_refusal_to_make_it_is_told(emulated, registry_cloud):
    place = emulated()
    registry_cloud.fault(
        kind="status", operation="create_container_repository", status=404, code="NotAuthorized"
    )
    with pytest.raises(CloudError, match="making the repository 'tests/x1' was refused: 404"):
        place.prepare(place.repository("x1"))
