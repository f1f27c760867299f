"""The registry that server images are pushed to, and the program of the one on this machine."""

from __future__ import annotations

import shutil

from falconry.doctor.reach import answers
from falconry.doctor.subject import Subject
from falconry.findings import Finding
from falconry.image.choice import REGISTRY_PROGRAM

REGISTRY = "registry"
PROGRAM = "own registry"


def registry(subject: Subject) -> Finding:
    """Whether the registry answers, and takes the profile's login.

    Raises:
        FalconryError: it does not.
    """
    found = subject.registry()
    if found is None:
        return Finding(REGISTRY, "skipped", "not needed: the local cloud starts its own")
    answers(found.host)
    if found.log_in is None:
        return Finding(REGISTRY, "ok", f"{found.host} answers; no login is set")
    found.log_in()
    return Finding(REGISTRY, "ok", f"{found.host} answers and takes the login")


def registry_program(subject: Subject) -> Finding:
    """Whether the local cloud can run a registry."""
    settings = subject.settings
    if settings.cloud.emulator is None or settings.image.registry.host:
        return Finding(PROGRAM, "skipped", "not needed: the profile has one elsewhere")
    if place := shutil.which(REGISTRY_PROGRAM):
        return Finding(PROGRAM, "ok", place)
    without = "" if subject.containers else ": deployments run as processes"
    return Finding(
        PROGRAM,
        "failed" if subject.containers else "skipped",
        f"{REGISTRY_PROGRAM} is not installed{without}",
        f"run: sudo apt-get install {REGISTRY_PROGRAM}",
    )
