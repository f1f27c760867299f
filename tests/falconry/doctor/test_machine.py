"""What is said of Python, namespaces, disks and GPUs."""

import collections
import importlib.util
import os
import shutil
import subprocess

import pytest

from falconry.doctor import host_checks
from falconry.engine.tensorrt_llm.machine import Gpu, HostGpus

USAGE = collections.namedtuple("usage", "total used free")


# --- Python --------------------------------------------------------------------------------------


def test_this_python_serves_the_process_image(subject):
    # The suite's other tests run a real tritonserver with it.
    found = host_checks.python(subject())
    assert found.state == "ok"


def test_a_missing_libpython_is_one_command_to_run(subject, monkeypatch):
    monkeypatch.setattr(host_checks, "_has_library", lambda name: False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = host_checks.python(subject())
    assert found.state == "failed"
    assert found.remedy.startswith("run: sudo apt-get install libpython3.")


def test_root_on_debian_gets_libpython_with_the_first_deployment(subject, monkeypatch):
    monkeypatch.setattr(host_checks, "_has_library", lambda name: False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")
    found = host_checks.python(subject())
    assert found.state == "ok"
    assert "make deploy installs it" in found.text


def test_a_missing_server_is_told(subject, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = host_checks.python(subject())
    assert found.state == "failed"
    assert "nvidia-pytriton" in found.text


@pytest.mark.parametrize("profile", ["local", "oci"])
def test_a_server_in_a_container_needs_no_libpython_here(subject, monkeypatch, profile):
    monkeypatch.setattr(host_checks, "_has_library", lambda name: False)
    assert host_checks.python(subject(profile, containers=True)).state == "ok"


# --- Namespaces ----------------------------------------------------------------------------------


def test_namespaces_are_well_where_the_kernel_makes_them(subject):
    who = [] if os.geteuid() == 0 else ["--user", "--map-current-user"]
    kinds = ["--mount", "--ipc", "--pid", "--net", "--fork"]
    made = subprocess.run(["unshare", *who, *kinds, "true"], check=False, capture_output=True)
    assert host_checks.namespaces(subject()).state == ("skipped" if made.returncode else "ok")


@pytest.mark.parametrize(("isolation", "state"), [("auto", "skipped"), ("namespaces", "failed")])
def test_a_kernel_that_refuses_namespaces_is_told_with_its_reason(
    subject, tmp_path, monkeypatch, isolation, state
):
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = host_checks.namespaces(subject(overrides=f"cloud.emulator.isolation={isolation}"))
    assert found.state == state
    assert "Operation not permitted" in found.text
    assert "max_user_namespaces" in found.remedy


def test_namespaces_are_not_tried_where_nobody_wants_them(subject, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("something was run"))
    plain = host_checks.namespaces(subject(overrides="cloud.emulator.isolation=plain"))
    assert (plain.state, host_checks.namespaces(subject("oci")).state) == ("skipped", "skipped")


def test_without_the_program_namespaces_are_not_known(subject, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = host_checks.namespaces(subject())
    assert found.state == "skipped"
    assert "unshare" in found.text


# --- Disks ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("engine_host")
@pytest.mark.parametrize(
    ("profile", "free", "state"),
    [
        ("local", 2e9, "ok"),
        ("local", 1e9, "skipped"),
        # The release's image is listed with 16.21 GB, which may be compressed.
        ("oci", 40e9, "ok"),
        ("oci", 20e9, "failed"),
    ],
)
def test_room_for_the_image_is_measured_against_the_profiles_image(
    subject, monkeypatch, profile, free, state
):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: USAGE(100e9, 0, int(free)))
    found = host_checks.image_disk(subject(profile))
    assert found.state == state
    assert bool(found.remedy) is (state != "ok")


@pytest.mark.usefixtures("engine_host")
def test_images_are_measured_where_the_engine_keeps_them(subject, monkeypatch, docker_engine):
    asked = []
    monkeypatch.setattr(
        shutil, "disk_usage", lambda place: asked.append(str(place)) or USAGE(0, 0, 10**12)
    )
    host_checks.image_disk(subject())
    client = docker_engine.client()
    assert asked == [client.info()["DockerRootDir"]]
    client.close()


@pytest.mark.usefixtures("engine_host")
def test_the_disk_of_another_machines_engine_is_not_known(subject, monkeypatch):
    def unseen(place):
        raise FileNotFoundError(place)

    monkeypatch.setattr(shutil, "disk_usage", unseen)
    found = host_checks.image_disk(subject())
    assert found.state == "skipped"
    assert "not seen from here" in found.text


@pytest.mark.usefixtures("no_engine")
def test_without_an_engine_its_disk_refers_to_it(subject):
    assert host_checks.image_disk(subject("oci")).state == "failed"
    assert "see Docker" in host_checks.image_disk(subject("oci")).text


def test_the_build_directory_is_measured_where_it_will_stand(subject, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = host_checks.build_disk(subject())
    assert found.state == "ok"
    assert str(tmp_path) in found.text


def test_a_full_disk_is_told(subject, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: USAGE(100e9, 0, 10_000_000))
    found = host_checks.build_disk(subject())
    assert found.state == "failed"
    assert "10.0 MB free" in found.text
    assert "make clean" in found.remedy


# --- GPUs ----------------------------------------------------------------------------------------


def test_a_profile_for_cpus_needs_no_gpu(subject, monkeypatch):
    monkeypatch.setattr(host_checks, "probe_gpus", lambda: pytest.fail("NVML was asked"))
    for check in (host_checks.gpus, host_checks.runtime):
        found = check(subject())
        assert found.state == "skipped"
        assert found.text.startswith("not needed")


def test_gpus_are_told_as_nvml_gives_them(subject, monkeypatch):
    a10 = Gpu("NVIDIA A10", 86, 24_146_608_128)
    monkeypatch.setattr(host_checks, "probe_gpus", lambda: HostGpus("575.57.08", (a10,)))
    found = host_checks.gpus(subject("oci"))
    assert (found.state, found.text) == ("ok", "NVIDIA A10 (SM 86, 24.1 GB); driver 575.57.08")


def test_a_machine_without_a_gpu_is_told_which_driver_the_release_wants(subject, monkeypatch):
    monkeypatch.setattr(host_checks, "probe_gpus", lambda: None)
    found = host_checks.gpus(subject("oci"))
    assert found.state == "failed"
    assert "575 or later for 25.10" in found.remedy


@pytest.mark.usefixtures("engine_host")
def test_an_engine_that_gives_no_gpus_names_the_toolkit(subject, monkeypatch):
    monkeypatch.setattr(host_checks, "can_see_gpus", lambda client: False)
    found = host_checks.runtime(subject("oci"))
    assert found.state == "failed"
    assert "NVIDIA Container Toolkit" in found.remedy


def test_an_engine_with_nvidias_runtime_is_well(subject, gpu_docker_engine, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", gpu_docker_engine.host)
    assert host_checks.runtime(subject("oci")).state == "ok"
