"""Free disk space where images and builds go, against what the profile puts there."""

from __future__ import annotations

import shutil

from falconry.docker_engine.facts import engine_facts
from falconry.doctor.docker_engine import NO_ENGINE, asked_engine
from falconry.doctor.subject import Subject
from falconry.engine.tensorrt_llm.memory import unpacked_image_bytes
from falconry.engine.toolchain import load_toolchains
from falconry.findings import Finding
from falconry.progress import human_size

IMAGES = "Docker disk"
BUILD = "build disk"

# The CPU server image may have 800 MB, and the stage that it is built in takes as much again.
_CPU_IMAGE_BYTES = 1_600_000_000
# Enough for the engine, repository and artifact of the smallest checkpoints; what a larger one
# takes is checked before its build.
_BUILD_BYTES = 1_000_000_000


def image_disk(subject: Subject) -> Finding:
    """Whether the server image has room where the engine keeps images."""
    with asked_engine() as client:
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
    """Whether there is room where build/ stands."""
    build = subject.settings.build_directory.absolute()
    place = next(path for path in (build, *build.parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    if free >= _BUILD_BYTES:
        return Finding(BUILD, "ok", f"{human_size(free)} free at {place}")
    return Finding(
        BUILD,
        "failed",
        f"{human_size(free)} free at {place}, and a build takes {human_size(_BUILD_BYTES)} or more",
        "free some disk space, or run make clean",
    )


def _image_bytes(subject: Subject) -> int:
    if not subject.needs_gpu:
        return _CPU_IMAGE_BYTES
    return unpacked_image_bytes(load_toolchains().row(subject.settings.engine.toolchain))


def _takes(size: int) -> str:
    return f"the image takes up to {human_size(size)}"
