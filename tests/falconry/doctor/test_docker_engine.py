"""What is said of the Docker engine and of the base image, with a real engine where one is."""

import contextlib
import io
import os
import shutil
import socket
import tarfile
import uuid

import pytest
from docker.context import ContextAPI
from docker.errors import DockerException

from docker import client as docker_client
from falconry.docker_engine.facts import engine_address
from falconry.doctor import docker_engine as checks
from falconry.doctor.examine import examine


def test_an_engine_that_answers_is_named_with_its_version(subject, engine_host, docker_engine):
    with contextlib.closing(docker_engine.client()) as client:
        version = client.version()["Version"]
    found = checks.engine(subject())
    assert found.state == "ok"
    assert found.text.startswith(f"{version} on linux/")
    assert engine_host in found.text


@pytest.mark.usefixtures("no_engine")
def test_an_absent_engine_is_wrong_only_where_it_is_needed(subject):
    local, oci = checks.engine(subject()), checks.engine(subject("oci"))
    assert (local.state, oci.state) == ("skipped", "failed")
    for found in (local, oci):
        assert "no Docker engine answers (unix:///nowhere/docker.sock)" in found.text
        assert "DOCKER_HOST" in found.remedy


def test_an_engine_that_this_user_may_not_ask_is_told_apart_from_an_absent_one(
    subject, monkeypatch
):
    def refused(*_, **__):  # root, who runs these tests, is refused by no socket
        raise DockerException("('Connection aborted.', PermissionError(13, 'Permission denied'))")

    monkeypatch.setattr(docker_client, "from_env", refused)
    found = checks.engine(subject("oci"))
    assert found.state == "failed"
    assert "this user may not use the Docker engine" in found.text
    assert "group docker" in found.remedy


def test_an_engine_that_never_answers_is_given_up(subject, tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "s"))
        mute.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/s")
        (found,) = examine(subject(), {checks.ENGINE: checks.engine}, 0.5)
    assert found.state == "failed"
    assert "no answer within 0.5 s" in found.text


def test_an_address_is_told_without_the_password_in_it():
    told = engine_address({"DOCKER_HOST": "https://me:secret@build.example:2376"})
    assert told == "https://build.example:2376"


@pytest.fixture
def docker_config(tmp_path, monkeypatch):
    """An empty configuration of the Docker command; the SDK keeps contexts beside the file."""
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("docker_config")
def test_without_docker_host_the_address_is_the_contexts_or_dockers_own():
    assert engine_address({}) == "unix:///var/run/docker.sock"
    ContextAPI.create_context("remote", host="unix:///elsewhere/docker.sock")
    assert engine_address({"DOCKER_CONTEXT": "remote"}) == "unix:///elsewhere/docker.sock"


def test_a_damaged_context_is_named(docker_config):
    ContextAPI.create_context("remote", host="unix:///elsewhere/docker.sock")
    (metadata,) = docker_config.glob("contexts/meta/*/meta.json")
    metadata.write_text("{")
    assert engine_address({"DOCKER_CONTEXT": "remote"}) == "the context remote"


# --- The base image ------------------------------------------------------------------------------


@pytest.fixture
def image(docker_engine):
    """The name of an image that the engine holds: an empty one."""
    name = f"falconry-doctor-test:{uuid.uuid4().hex[:12]}"
    archive = io.BytesIO()
    tarfile.open(fileobj=archive, mode="w").close()
    repository, _, tag = name.partition(":")
    with contextlib.closing(docker_engine.client()) as client:
        client.api.import_image_from_data(archive.getvalue(), repository=repository, tag=tag)
        try:
            yield name
        finally:
            client.images.remove(name)


@pytest.mark.usefixtures("engine_host")
def test_a_base_image_that_the_engine_has_is_well(subject, image):
    found = checks.base_image(subject(base_images=(image,)))
    assert found.state == "ok"
    assert found.text == f"the engine has {image}"


@pytest.mark.usefixtures("engine_host")
def test_a_base_image_that_our_script_makes_is_well_for_root_on_debian(subject, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")
    found = checks.base_image(subject(base_images=("falconry-base:none-such",)))
    assert found.state == "ok"
    assert "scripts/base_image.sh makes falconry-base:none-such" in found.text


@pytest.mark.usefixtures("engine_host")
@pytest.mark.parametrize(("containers", "state"), [(True, "failed"), (False, "skipped")])
def test_a_base_image_that_cannot_be_made_here_names_the_ways(
    subject, monkeypatch, containers, state
):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = checks.base_image(
        subject(base_images=("falconry-base:none-such",), containers=containers)
    )
    assert found.state == state
    assert "image.base" in found.remedy


@pytest.mark.usefixtures("engine_host")
def test_a_base_image_of_a_registry_that_answers_is_well(subject, registry_host):
    found = checks.base_image(subject("oci", base_images=(f"{registry_host}/base:1",)))
    assert found.state == "ok"
    assert f"{registry_host} answers" in found.text


@pytest.mark.usefixtures("engine_host")
def test_a_base_image_of_a_registry_that_is_not_there_can_be_brought_by_hand(subject, closed_port):
    found = checks.base_image(subject("oci", base_images=(f"127.0.0.1:{closed_port}/base:1",)))
    assert found.state == "failed"
    assert f"127.0.0.1:{closed_port} cannot be reached" in found.text
    assert "docker load" in found.remedy


@pytest.mark.usefixtures("engine_host")
def test_of_several_base_images_the_one_that_cannot_be_had_is_told(subject, image, closed_port):
    names = (image, f"127.0.0.1:{closed_port}/base:1")
    found = checks.base_image(subject("oci", base_images=names))
    assert found.state == "failed"
    assert names[1] in found.text


def test_a_profile_with_an_image_of_its_own_needs_no_base(subject):
    assert checks.base_image(subject("oci", base_images=())).state == "skipped"


@pytest.mark.usefixtures("no_engine")
def test_without_an_engine_its_own_line_tells_what_to_do(subject):
    found = checks.base_image(subject("oci"))
    assert (found.state, found.remedy) == ("failed", "")
    assert "see Docker" in found.text
