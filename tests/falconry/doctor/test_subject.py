"""What is looked at for a profile as it is shipped, and with a registry of one's own."""

import pytest

from falconry.doctor.network_checks import registry
from falconry.doctor.subject import subject_of
from falconry.engine.toolchain import load_toolchains
from falconry.errors import FalconryError
from falconry.image.registry import HostRegistry
from falconry.settings import load_settings
from tests.falconry.doctor.conftest import ROOT


class ClosedDoor:
    """To a registry that has not been started."""

    def is_available(self):
        return False

    def connect(self):
        raise AssertionError("the registry would be started")


def test_the_local_profile_needs_no_container_and_starts_no_registry():
    settings = load_settings(ROOT)
    found = subject_of(settings, ClosedDoor())
    assert found.base_images == (settings.image.base,)
    assert (found.containers, found.needs_docker) == (False, False)
    assert found.registry() is None


def test_containers_that_are_asked_for_are_needed():
    settings = load_settings(ROOT, overrides="image.run=container")
    assert subject_of(settings, ClosedDoor()).needs_docker


def test_the_real_clouds_profile_needs_a_gpu_and_the_toolchains_image():
    found = subject_of(load_settings(ROOT, "oci"), ClosedDoor())
    assert found.base_images == (load_toolchains().row(None).image,)
    assert (found.containers, found.needs_gpu) == (True, True)


def test_an_image_of_ones_own_has_no_base():
    settings = load_settings(ROOT, "oci", overrides="image.reference=iad.ocir.io/ns/own:1")
    assert subject_of(settings, ClosedDoor()).base_images == ()


def test_a_registry_without_password_is_asked_for_the_profiles_image(registry_host, no_login):
    found = registry(_with_registry(registry_host))
    assert (found.state, found.text) == ("ok", f"{registry_host} answers and takes the login")


def test_a_registry_that_wants_a_password_refuses_who_has_none(server, no_login):
    host = server(401, [("WWW-Authenticate", 'Basic realm="here"')])
    with pytest.raises(FalconryError, match=host):
        registry(_with_registry(host))


@pytest.fixture
def no_login(tmp_path, monkeypatch):
    """Nobody has logged in at a registry."""
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for name in ("OCIR_AUTH_TOKEN", "OCIR_USERNAME"):
        monkeypatch.delenv(name, raising=False)


def _with_registry(host):
    settings = load_settings(ROOT, overrides=f"image.registry.host={host}")
    return subject_of(settings, HostRegistry(settings.image.registry))
