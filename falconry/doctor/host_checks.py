"""Checks of this machine: Docker engine, disk, GPUs, namespaces, open files, Python."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import platform
import resource
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from falconry.docker_engine.client import can_see_gpus, connect, engine_address, engine_facts
from falconry.docker_engine.images import ImageReference, has_image
from falconry.doctor.network_checks import answers
from falconry.doctor.subject import Subject
from falconry.engine.tensorrt_llm.machine import probe_gpus
from falconry.engine.tensorrt_llm.memory import unpacked_image_bytes
from falconry.engine.toolchain import load_toolchains
from falconry.errors import FalconryError, MachineError
from falconry.files import require_open_files
from falconry.findings import Finding, verdict
from falconry.image.server_images import MADE_HERE
from falconry.progress import human_size

if TYPE_CHECKING:
    from docker.client import DockerClient

ENGINE = "Docker"
BASE_IMAGE = "base image"
NO_ENGINE = f"not known without an engine, see {ENGINE}"

# Where the API of Docker Hub is, whose images are named without a host.
_DOCKER_HUB = {"docker.io": "registry-1.docker.io"}
IMAGES = "Docker disk"
BUILD = "build disk"

# The CPU server image may have 800 MB, and the stage that it is built in takes as much again.
_CPU_IMAGE_BYTES = 1_600_000_000
# Enough for the engine, repository and artifact of the smallest checkpoints; what a larger one
# takes is checked before its build.
_BUILD_BYTES = 1_000_000_000
RUNTIME = "GPU runtime"
GPU = "GPU"
_NOT_NEEDED = "not needed: the profile builds engines for CPUs"
NAMESPACES = "namespaces"
_TIMEOUT_S = 5.0
# What local_oci's process runner makes; root needs no user namespace for it.
_KINDS = ("--mount", "--ipc", "--pid", "--net", "--fork")
_OF_A_USER = ("--user", "--map-current-user")
OPEN_FILES = "open files"
PYTHON = "Python"


# --- the Docker engine and base images --------------------------------------------------------


def engine(subject: Subject) -> Finding:
    """Checks that a Docker engine answers this user."""
    address = engine_address()
    try:
        with contextlib.closing(connect()) as client:
            facts = engine_facts(client)
    except MachineError as error:
        without = "" if subject.needs_docker else ": deployments run as processes"
        where = f"{error.where}: " if error.where else ""
        detail = f"{where}{error.problem} ({address}){without}"
        return Finding(ENGINE, subject.state_without_docker(), detail, error.remedy or "")
    return Finding(ENGINE, "ok", f"{facts.version} on {facts.platform} ({address})")


def base_image(subject: Subject) -> Finding:
    """Checks that the engine has the base images or can get them."""
    if not subject.base_images:
        return Finding(BASE_IMAGE, "skipped", "not needed: the profile names an image of its own")
    with connected_engine() as client:
        if client is None:
            return Finding(BASE_IMAGE, subject.state_without_docker(), NO_ENGINE)
        missing = [name for name in subject.base_images if not has_image(client, name)]
    if not missing:
        return Finding(BASE_IMAGE, "ok", f"the engine has {', '.join(subject.base_images)}")
    found = [_missing_image(ImageReference.parse(name), subject) for name in missing]
    return next((finding for finding in found if finding.state != "ok"), found[0])


@contextlib.contextmanager
def connected_engine() -> Iterator[DockerClient | None]:
    """Gives a client of the engine; None if there is no engine."""
    try:
        client = connect()
    except MachineError:
        yield None
        return
    with contextlib.closing(client):
        yield client


def _missing_image(reference: ImageReference, subject: Subject) -> Finding:
    if reference.name != MADE_HERE:
        return _pulled(reference, subject)
    if os.geteuid() == 0 and shutil.which("apt-get"):
        return Finding(BASE_IMAGE, "ok", f"scripts/base_image.sh makes {reference} when needed")
    return Finding(
        BASE_IMAGE,
        subject.state_without_docker(),
        f"the engine lacks {reference}, and only root on Debian can make it",
        "run scripts/base_image.sh as root, or name another Debian 12 in image.base",
    )


def _pulled(reference: ImageReference, subject: Subject) -> Finding:
    host = reference.host()
    try:
        answers(_DOCKER_HUB.get(host, host))
    except FalconryError as error:
        return Finding(
            BASE_IMAGE,
            subject.state_without_docker(),
            f"the engine lacks {reference}, and {error.problem}",
            f"{error.remedy}, or bring the image with docker load",
        )
    return Finding(BASE_IMAGE, "ok", f"{reference} is pulled when needed; {host} answers")


# --- free disk space --------------------------------------------------------------------------


def image_disk(subject: Subject) -> Finding:
    """Checks the free space of the engine's disk for the server image."""
    with connected_engine() as client:
        if client is None:
            return Finding(IMAGES, subject.state_without_docker(), NO_ENGINE)
        storage = engine_facts(client).storage
    needed = _image_bytes(subject)
    try:
        free = shutil.disk_usage(storage).free
    except OSError:
        return Finding(
            IMAGES, "skipped", f"not known: {storage} is not seen from here; {_takes(needed)}"
        )
    if free >= needed:
        return Finding(IMAGES, "ok", f"{human_size(free)} free at {storage}; {_takes(needed)}")
    return Finding(
        IMAGES,
        subject.state_without_docker(),
        f"{human_size(free)} free at {storage}, and {_takes(needed)}",
        "remove images with docker image prune, or move Docker's data-root to a larger disk",
    )


def build_disk(subject: Subject) -> Finding:
    """Checks the free space of build/'s disk."""
    build = subject.settings.build_directory.absolute()
    path = next(each for each in (build, *build.parents) if each.is_dir())
    free = shutil.disk_usage(path).free
    return verdict(
        BUILD,
        free >= _BUILD_BYTES,
        f"{human_size(free)} free at {path}",
        f"{human_size(free)} free at {path}, and a build takes {human_size(_BUILD_BYTES)} or more",
        "free some disk space, or run make clean",
    )


def _image_bytes(subject: Subject) -> int:
    if not subject.needs_gpu:
        return _CPU_IMAGE_BYTES
    return unpacked_image_bytes(load_toolchains().row(subject.settings.engine.toolchain))


def _takes(size: int) -> str:
    return f"the image takes up to {human_size(size)}"


# --- NVIDIA's GPUs ----------------------------------------------------------------------------


def runtime(subject: Subject) -> Finding:
    """Checks whether the Docker engine can give containers a GPU."""
    if not subject.needs_gpu:
        return Finding(RUNTIME, "skipped", _NOT_NEEDED)
    with connected_engine() as client:
        if client is None:
            return Finding(RUNTIME, "failed", NO_ENGINE)
        possible = can_see_gpus(client)
    return verdict(
        RUNTIME,
        possible,
        "the Docker engine takes --gpus",
        "the Docker engine cannot give containers a GPU",
        "install the NVIDIA Container Toolkit and restart Docker",
    )


def gpus(subject: Subject) -> Finding:
    """Checks the GPUs and the driver that NVML reports."""
    if not subject.needs_gpu:
        return Finding(GPU, "skipped", _NOT_NEEDED)
    host = probe_gpus()
    row = load_toolchains().row(subject.settings.engine.toolchain)
    if host is None:
        return Finding(
            GPU,
            "failed",
            "no NVIDIA GPU or driver is here",
            f"run on a machine with a GPU and its driver ({row.driver} or later for {row.release})",
        )
    found = ", ".join(
        f"{gpu.name} (SM {gpu.sm}, {human_size(gpu.memory_bytes)})" for gpu in host.gpus
    )
    return Finding(GPU, "ok", f"{found}; driver {host.driver}")


# --- namespaces, which keep local deployments apart -------------------------------------------


def namespaces(subject: Subject) -> Finding:
    """Checks that namespaces can be made; deployments run without them, less isolated."""
    emulator = subject.settings.cloud.emulator
    if emulator is None:
        return Finding(NAMESPACES, "skipped", "not needed: the profile's cloud is not local")
    if emulator.isolation == "plain":
        return Finding(NAMESPACES, "skipped", "not needed: the profile's isolation is plain")
    program = shutil.which("unshare")
    if program is None:
        return Finding(NAMESPACES, "skipped", "cannot be tried without the unshare program")
    if refusal := _refusal(program):
        return Finding(
            NAMESPACES,
            "failed" if emulator.isolation == "namespaces" else "skipped",
            f"this machine refuses them ({refusal}): processes of deployments are not kept apart",
            "allow user namespaces, such as by sysctl user.max_user_namespaces, or run as root",
        )
    return Finding(NAMESPACES, "ok", "deployments that run as processes are kept apart")


def _refusal(program: str) -> str:
    """Returns why namespaces cannot be made; empty if they can."""
    of_whom = () if os.geteuid() == 0 else _OF_A_USER
    try:
        tried = subprocess.run(
            [program, *of_whom, *_KINDS, "true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {_TIMEOUT_S:g} s"
    lines = tried.stderr.strip().splitlines()
    return "" if tried.returncode == 0 else (lines[-1] if lines else "no reason given")


# --- limits of processes ----------------------------------------------------------------------


def open_files(subject: Subject) -> Finding:
    """Checks that a run may open enough files."""
    require_open_files()
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Finding(OPEN_FILES, "ok", f"{allowed} allowed")


# --- Python -----------------------------------------------------------------------------------


def python(subject: Subject) -> Finding:
    """Checks for libpython and the server, which process images need."""
    version = platform.python_version()
    if subject.containers or subject.settings.cloud.emulator is None:
        return Finding(PYTHON, "ok", f"{version}; the server brings its own")
    if importlib.util.find_spec("pytriton") is None:
        return Finding(
            PYTHON,
            "failed",
            f"{version}, without the nvidia-pytriton package",
            "remove .venv and run make again",
        )
    library = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    if _has_library(library):
        return Finding(PYTHON, "ok", f"{version} with {library}")
    package = library.removesuffix(".so.1.0")
    missing = f"{version}, without {library} for Triton's Python backend"
    if os.geteuid() == 0 and shutil.which("apt-get"):
        return Finding(PYTHON, "ok", f"{missing}; the first make deploy installs it")
    return Finding(PYTHON, "failed", missing, f"run: sudo apt-get install {package}")


def _has_library(name: str) -> bool:
    """Whether the loader or the interpreter's directory has the library."""
    try:
        ctypes.CDLL(name)
    except OSError:
        return (Path(str(sysconfig.get_config_var("LIBDIR"))) / name).is_file()
    return True
