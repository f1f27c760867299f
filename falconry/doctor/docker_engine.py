"""The Docker engine, and the images that the profile's server image is built from."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

from falconry.docker_engine.connection import connect
from falconry.docker_engine.facts import engine_address, engine_facts
from falconry.docker_engine.images import has_image
from falconry.docker_engine.references import ImageReference
from falconry.doctor.reach import answers
from falconry.doctor.subject import Subject
from falconry.errors import FalconryError, MachineError
from falconry.findings import Finding
from falconry.image.bases import MADE_HERE

if TYPE_CHECKING:
    from docker.client import DockerClient

ENGINE = "Docker"
BASE_IMAGE = "base image"
NO_ENGINE = f"not known without an engine, see {ENGINE}"

# Where the API of Docker Hub is, whose images are named without a host.
_DOCKER_HUB = {"docker.io": "registry-1.docker.io"}


def engine(subject: Subject) -> Finding:
    """Whether an engine answers and this user may ask it, and which one that is."""
    address = engine_address()
    try:
        with contextlib.closing(connect()) as client:
            facts = engine_facts(client)
    except MachineError as error:
        without = "" if subject.needs_docker else ": deployments run as processes"
        detail = f"{error.problem} ({address}){without}"
        return Finding(ENGINE, subject.state_without_docker(), detail, error.remedy or "")
    return Finding(ENGINE, "ok", f"{facts.version} on {facts.platform} ({address})")


def base_image(subject: Subject) -> Finding:
    """Whether the engine holds the base images, or could be given them."""
    if not subject.base_images:
        return Finding(BASE_IMAGE, "skipped", "not needed: the profile names an image of its own")
    with asked_engine() as client:
        if client is None:
            return Finding(BASE_IMAGE, subject.state_without_docker(), NO_ENGINE)
        missing = [name for name in subject.base_images if not has_image(client, name)]
    if not missing:
        return Finding(BASE_IMAGE, "ok", f"the engine has {', '.join(subject.base_images)}")
    found = [_to_be_had(ImageReference.parse(name), subject) for name in missing]
    return next((finding for finding in found if finding.state != "ok"), found[0])


@contextlib.contextmanager
def asked_engine() -> Iterator[DockerClient | None]:
    """A client of the engine; None where there is none, which is another check's to tell."""
    try:
        client = connect()
    except MachineError:
        yield None
        return
    with contextlib.closing(client):
        yield client


def _to_be_had(reference: ImageReference, subject: Subject) -> Finding:
    if reference.name == MADE_HERE:
        return _made_here(reference, subject)
    return _pulled(reference, subject)


def _made_here(reference: ImageReference, subject: Subject) -> Finding:
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
