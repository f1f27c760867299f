"""Container or process: what a machine has decides, and the reason is told."""

import os
import socket
from pathlib import Path

import pytest

from falconry.image.output import choose, engine_listens
from falconry.settings import load_settings

ROOT = Path(__file__).parents[3]


@pytest.fixture
def listening(tmp_path):
    """An environment in which somebody listens where Docker's engine would."""
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(tmp_path / "s"))
        engine.listen()
        programs = tmp_path / "bin"
        programs.mkdir()
        for name in ("docker-registry", "apt-get"):
            (programs / name).write_text("#!/bin/sh\n")
            (programs / name).chmod(0o755)
        yield {"DOCKER_HOST": f"unix://{tmp_path}/s", "PATH": str(programs)}


def settings(*overrides):
    return load_settings(ROOT, overrides=" ".join(overrides)).image


def test_without_an_engine_it_is_a_process(tmp_path):
    choice = choose(settings(), {"DOCKER_HOST": f"unix://{tmp_path}/none", "PATH": ""})
    assert (choice.kind, choice.reason) == ("process", "no Docker engine answers")


def test_without_a_registry_it_is_a_process(listening, tmp_path):
    choice = choose(settings("image.base=debian:12"), {**listening, "PATH": str(tmp_path)})
    assert choice.kind == "process"
    assert "apt-get install docker-registry" in choice.reason


def test_a_registry_elsewhere_needs_no_program(listening, tmp_path):
    wanted = settings("image.base=debian:12 image.registry.host=registry.test")
    assert choose(wanted, {**listening, "PATH": str(tmp_path)}).kind == "container"


@pytest.mark.skipif(os.geteuid() != 0, reason="root makes the base image")
def test_with_all_that_it_needs_it_is_a_container(listening):
    assert choose(settings(), listening).kind == "container"


def test_a_base_that_cannot_be_made_here_is_told(listening, tmp_path):
    (Path(listening["PATH"]) / "apt-get").unlink()
    choice = choose(settings(), listening)
    assert choice.kind == "process"
    assert "base image" in choice.reason


@pytest.mark.parametrize("kind", ["container", "process"])
def test_what_the_profile_asks_for_is_not_asked_of_the_machine(kind):
    choice = choose(settings(f"image.run={kind}"), {"DOCKER_HOST": "unix:///nowhere", "PATH": ""})
    assert (choice.kind, choice.reason) == (kind, "")


def test_an_engine_at_a_port_is_found():
    with socket.socket() as engine:
        engine.bind(("127.0.0.1", 0))
        engine.listen()
        port = engine.getsockname()[1]
        assert engine_listens({"DOCKER_HOST": f"tcp://127.0.0.1:{port}"})
    assert not engine_listens({"DOCKER_HOST": f"tcp://127.0.0.1:{port}"})
