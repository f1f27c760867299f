"""Pushes by a real engine to real registries, some of which fail as a proxy in front is told."""

import contextlib
import secrets
import socket

import pytest
import requests

from falconry.docker_engine.configuration import Credentials
from falconry.docker_engine.images import ImageReference
from falconry.docker_engine.registry_errors import TransientError
from falconry.errors import ImageError
from falconry.image import build as pushing
from falconry.image.build import push
from falconry.image.ocir import OcirProvider
from falconry.settings import CloudSettings, EmulatorSettings, RegistrySettings
from tests.registry_proxy import Refusal, proxy_of

UNAVAILABLE = Refusal(503, "UNAVAILABLE", "service unavailable")


def ignore(step, fraction):
    pass


@pytest.fixture
def proxy(open_registry):
    with proxy_of(open_registry) as proxy:
        yield proxy


@pytest.fixture
def image(proxy, tiny_image):
    """An image of two layers that is to be pushed through the proxy."""
    return tiny_image(f"{proxy.host}/tests/{secrets.token_hex(4)}:1")


@pytest.fixture
def without_pauses(monkeypatch):
    monkeypatch.setattr(pushing, "_FIRST_PAUSE_S", 0.0)


def digest_there(registry, reference):
    parsed = ImageReference.parse(reference)
    return registry.digest(parsed.repository, parsed.version)


def test_the_digest_is_the_one_that_the_registry_has(docker_client, locked_registry, tiny_image):
    reference = tiny_image(f"{locked_registry.host}/tests/{secrets.token_hex(4)}:1")
    steps = []
    stored = push(
        docker_client,
        reference,
        lambda: Credentials(*locked_registry.login),
        lambda step, fraction: steps.append((step, fraction)),
    )
    assert stored.digest == digest_there(locked_registry, reference)
    assert len(stored.layers) == 2
    fractions = [fraction for step, fraction in steps if step == "pushing"]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] <= fractions[-1] <= 1


def test_a_wrong_password_is_told_and_not_tried_again(docker_client, locked_registry, tiny_image):
    reference = tiny_image(f"{locked_registry.host}/tests/{secrets.token_hex(4)}:1")
    user, password = locked_registry.login
    asked = []

    def credentials():
        asked.append("asked")
        return Credentials(user, f"{password}x")

    with pytest.raises(ImageError, match="does not accept the login") as raised:
        push(docker_client, reference, credentials, ignore)
    assert asked == ["asked"]
    assert password not in str(raised.value)


# The codes are distribution's (docs/spec/api.md, "Errors"). The messages are not its own: with
# those Docker 20.10 does not see that it is refused for good, and tries for 50 seconds.
REFUSALS = {
    "unauthorized": (
        Refusal(401, "UNAUTHORIZED", "who are you"),
        "the registry does not accept the login",
    ),
    "denied": (
        Refusal(403, "DENIED", "not this user"),
        "this user may not push or pull there",
    ),
    "no repository": (
        Refusal(404, "NAME_UNKNOWN", "no such name"),
        "the registry has no such repository",
    ),
    "quota": (
        Refusal(403, "DENIED", "this will exceed the configured storage quota"),
        "the registry has no room left for it",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_inside_the_stream_is_raised_with_its_own_message(
    docker_client, proxy, image, name
):
    refusal, problem = REFUSALS[name]
    proxy.fail("POST", "/blobs/uploads/", refusal, times=10)
    with pytest.raises(ImageError) as raised:
        push(docker_client, image, lambda: None, ignore)
    assert raised.value.problem.startswith(problem)
    assert raised.value.where == image
    assert raised.value.remedy
    assert "\n" not in str(raised.value)
    assert not isinstance(raised.value, TransientError)


def test_a_registry_that_cannot_be_reached_is_given_up_after_some_tries(
    docker_client, tiny_image, without_pauses
):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        image = tiny_image(f"127.0.0.1:{free.getsockname()[1]}/tests/image:1")
    steps = []
    with pytest.raises(TransientError, match="the registry cannot be reached"):
        push(docker_client, image, lambda: None, lambda step, fraction: steps.append(step))
    assert len([step for step in steps if "trying again" in step]) == 3


@pytest.mark.parametrize("refusal", [UNAVAILABLE, None], ids=["503", "cut"])
def test_a_registry_that_fails_twice_gets_what_it_lacks_and_no_more(
    docker_client, open_registry, proxy, image, without_pauses, refusal
):
    proxy.fail("PUT", "/manifests/", refusal, times=2)
    stored = push(docker_client, image, lambda: None, ignore)
    assert stored.digest == digest_there(open_registry, image)
    # Two layers and the configuration, each once.
    assert len(proxy.uploads()) == len(set(proxy.uploads())) == 3


def test_a_connection_that_is_cut_in_a_layer_costs_that_layer_alone(
    docker_client, open_registry, proxy, image, without_pauses
):
    proxy.fail("PATCH", "/blobs/uploads/", None)
    stored = push(docker_client, image, lambda: None, ignore)
    assert stored.digest == digest_there(open_registry, image)
    assert len(proxy.uploads()) == len(set(proxy.uploads())) == 3


def test_a_registry_that_fails_when_it_is_read_back_is_asked_again(
    docker_client, open_registry, proxy, image, without_pauses
):
    proxy.fail("GET", "/manifests/", UNAVAILABLE, times=2)
    stored = push(docker_client, image, lambda: None, ignore)
    assert stored.digest == digest_there(open_registry, image)
    assert len(proxy.uploads()) == 3


def test_another_image_under_the_tag_afterwards_is_told(docker_client, open_registry, proxy, image):
    parsed = ImageReference.parse(image)

    def report(step, fraction):
        """Somebody else pushes as soon as ours is there."""
        if digest_there(open_registry, image):
            open_registry.push(parsed.repository, parsed.version, b"another")

    with pytest.raises(ImageError, match="under this tag and not") as raised:
        push(docker_client, image, lambda: None, report)
    assert digest_there(open_registry, image) in raised.value.problem
    assert "who else pushes" in raised.value.remedy


# --- the cloud's registry ---------------------------------------------------------------------


@pytest.fixture
def place(registry_cloud, tmp_path):
    """The cloud's repositories, as the stage has them."""
    cloud = CloudSettings(
        config_file=registry_cloud.directory / "config",
        project="tests",
        log_group="tests",
        log="tests",
        emulator=EmulatorSettings(directory=registry_cloud.directory),
    )
    yield OcirProvider(cloud, RegistrySettings(prefix="tests"), tmp_path / "namespaces").connect()
    with contextlib.suppress(requests.RequestException):
        registry_cloud.forget_faults()


def test_a_token_service_that_fails_twice_is_asked_again(
    docker_client, registry_cloud, place, tiny_image, without_pauses
):
    repository = place.repository(secrets.token_hex(4))
    image = tiny_image(f"{place.host}/{repository}:1")
    registry_cloud.fault(kind="status", operation="get_docker_token", status=503, times=2)
    steps = []
    stored = push(
        docker_client,
        image,
        lambda: place.credentials(repository),
        lambda step, fraction: steps.append(step),
    )
    assert stored.digest.startswith("sha256:")
    assert len([step for step in steps if "trying again" in step]) == 2


def test_a_missing_repository_that_a_push_may_not_make_is_told(
    docker_client, registry_sdk, place, tiny_image, without_pauses
):
    import oci

    def made_on_first_push(value):
        registry_sdk.artifacts.update_container_configuration(
            registry_sdk.compartment,
            oci.artifacts.models.UpdateContainerConfigurationDetails(
                is_repository_created_on_first_push=value
            ),
        )

    repository = place.repository(secrets.token_hex(4))
    image = tiny_image(f"{place.host}/{repository}:1")
    made_on_first_push(False)
    try:
        with pytest.raises(ImageError, match="this user may not push or pull there"):
            push(docker_client, image, lambda: place.credentials(repository), ignore)
    finally:
        made_on_first_push(True)
