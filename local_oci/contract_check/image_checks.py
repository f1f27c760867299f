"""Checks of an image that does not run yet."""

from __future__ import annotations

import asyncio

from local_oci.contract_check.engine_image import EngineImage, find_image, has_curl
from local_oci.contract_check.report import Finding, ok, violation
from local_oci.contract_check.request import CheckRequest
from local_oci.runtime.runner import PullError, PullReport
from local_oci.runtime.runners import pull_image, split_reference

# [inferred] the shapes for custom containers that local_oci lists are x86 machines.
_PLATFORM = "linux/amd64"


async def get_image(reference: str, report: PullReport) -> EngineImage | Finding:
    """The image, pulled if the engine does not have it, or the violation.

    Raises:
        EngineError: no engine answers.
    """
    image = await asyncio.to_thread(find_image, reference)
    if image is None:
        try:
            await pull_image(*split_reference(reference), None, report)
        except PullError as error:
            return _absent(f"the engine does not have it, and {error}")
        image = await asyncio.to_thread(find_image, reference)
    return _absent("the engine does not have it") if image is None else image


def platform_finding(image: EngineImage) -> Finding:
    """Whether the image is for the cloud's machines."""
    if image.platform != _PLATFORM:
        return violation(
            "image",
            f"is for {image.platform}, not {_PLATFORM}",
            f"build it with --platform {_PLATFORM}",
        )
    return ok("image", f"{image.id}, {image.platform}")


def program_finding(image: EngineImage, request: CheckRequest) -> Finding:
    """Whether there is something to run."""
    command = (*request.entrypoint, *request.cmd) or image.command
    if not command:
        return violation(
            "program",
            "the image has neither ENTRYPOINT nor CMD, and neither is given",
            "give --entrypoint or --cmd, in the deployment as well, or put one into the image",
        )
    return ok("program", "there is something to run")


async def curl_finding(image: EngineImage) -> Finding:
    """Whether the cloud can run its health check in the container."""
    if not await asyncio.to_thread(has_curl, image):
        return violation(
            "curl",
            "the image has no curl that runs, and the cloud's health check runs in the container",
            "install curl in the image",
        )
    return ok("curl", "is in the image")


def _absent(text: str) -> Finding:
    return violation("image", text, "build or pull it, or log in to its registry")
