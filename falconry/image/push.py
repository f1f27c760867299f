"""Pushes a built image, and reads back what the registry has of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from falconry.docker_engine.client import engine_errors_told
from falconry.docker_engine.progress import LayerProgress
from falconry.docker_engine.references import ImageReference
from falconry.docker_engine.registry_errors import PassingError, explain
from falconry.errors import ImageError
from falconry.image.credentials import Credentials
from falconry.image.registry import RegistryClient, StoredImage

if TYPE_CHECKING:
    from docker.client import DockerClient

_TRIES = 4
_FIRST_PAUSE_S = 1.0

Report = Callable[[str, float | None], None]


def push(
    client: DockerClient,
    reference: str,
    credentials: Callable[[], Credentials | None],
    report: Report,
) -> StoredImage:
    """Pushes an image and compares the digest that the registry then has.

    The engine sends only layers that the registry lacks, so another try goes on where the last
    one failed.

    Args:
        client: of the engine that has the image.
        reference: with registry and tag.
        credentials: asked anew for each try, since tokens expire.
        report: called with the step and how much of it is done.

    Raises:
        ImageError: the registry refuses, cannot be reached, or has another image afterwards.
        MachineError: the engine does not answer.
    """
    for attempt in range(_TRIES - 1):
        try:
            return _push_and_read_back(client, reference, credentials(), report)
        except PassingError as error:
            report(f"pushing failed, trying again ({error.problem})", None)
            time.sleep(_FIRST_PAUSE_S * 2**attempt)
    return _push_and_read_back(client, reference, credentials(), report)


def _push_and_read_back(
    client: DockerClient, reference: str, login: Credentials | None, report: Report
) -> StoredImage:
    return _read_back(reference, _push_once(client, reference, login, report), login)


def _push_once(
    client: DockerClient, reference: str, login: Credentials | None, report: Report
) -> str:
    """One push; gives the digest that the engine says it pushed."""
    from docker.errors import APIError

    image = ImageReference.parse(reference)
    layers = LayerProgress()
    digest = ""
    options: dict[str, Any] = {"auth_config": login.auth_config()} if login else {}
    with engine_errors_told():
        try:
            events = client.api.push(image.name, tag=image.tag, stream=True, decode=True, **options)
            for event in events:
                _raise_error(reference, event)
                digest = (event.get("aux") or {}).get("Digest", digest)
                report("pushing", layers.fraction_after(event))
        except APIError as error:
            raise explain(reference, str(error.explanation or error)) from None
    if not digest:
        raise ImageError("the push ended without a digest", where=reference, remedy="run again")
    return digest


def _raise_error(reference: str, event: Mapping[str, Any]) -> None:
    """The SDK gives errors inside the stream as events like any other (docker-py 7.2.0)."""
    if "error" in event or "errorDetail" in event:
        detail = event.get("errorDetail") or {}
        raise explain(reference, str(detail.get("message") or event.get("error")))


def _read_back(reference: str, digest: str, login: Credentials | None) -> StoredImage:
    image = ImageReference.parse(reference)
    stored = RegistryClient(image.registry, login).image(image.repository, image.version)
    if stored is None or stored.digest != digest:
        found = stored.digest if stored else "nothing"
        raise ImageError(
            f"the registry has {found} under this tag and not {digest}, which was pushed",
            where=reference,
            remedy="see who else pushes to this tag, and run again",
        )
    return stored
