"""The checks in their order, up to the first violation."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from local_oci.contract_check.configuration_checks import (
    command_finding,
    environment_finding,
    ports_finding,
)
from local_oci.contract_check.diagnosis import UNPRIVILEGED_USER, Note, diagnose
from local_oci.contract_check.directory import check_directory
from local_oci.contract_check.image_checks import (
    curl_finding,
    get_image,
    platform_finding,
    program_finding,
)
from local_oci.contract_check.leftovers import remove_left_containers
from local_oci.contract_check.report import Finding, Outcome, Report, ok, violation
from local_oci.contract_check.request import CheckRequest
from local_oci.contract_check.running_checks import (
    listening_finding,
    loopback_finding,
    stop_finding,
    unhealthy_finding,
)
from local_oci.contract_check.trial import Subject, run_trial
from local_oci.limits import DEPLOYED_MODEL_PATH
from local_oci.runtime.artifact import ArtifactError, copy_unpacked, unpack
from local_oci.runtime.docker_container import Confinement

Tell = Callable[[Finding], None]


class _ViolatedError(Exception):
    """The contract is broken; the rest need not be asked."""


async def check(request: CheckRequest, tell: Tell, note: Note) -> Report:
    """Check an image with an artifact; nothing is left but the image, if it had to be pulled.

    What a check that was killed left is removed as well.

    Args:
        request: what to check.
        tell: receives each finding when it is known.
        note: is told what takes time.

    Raises:
        EngineError: no Docker engine answers.
    """
    with check_directory() as directory:
        run = _Check(request, tell, note)
        with contextlib.suppress(_ViolatedError):
            await run.all_checks(directory / "model")
        return Report(request.image, run.findings, run.output)


class _Check:
    """One check: what is asked, and what was found."""

    def __init__(self, request: CheckRequest, tell: Tell, note: Note) -> None:
        self._request = request
        self._tell = tell
        self._note = note
        self.findings: list[Finding] = []
        self.output: tuple[str, ...] = ()

    async def all_checks(self, model: Path) -> None:
        """Make all checks; `model` is a directory to be made."""
        self._add(command_finding(self._request))
        self._add(environment_finding(self._request))
        self._add(ports_finding(self._request))
        await asyncio.to_thread(remove_left_containers)
        image = await get_image(self._request.image, self._tell_of_pull)
        if isinstance(image, Finding):
            self._add(image)
            return
        self._add(platform_finding(image))
        self._add(program_finding(image, self._request))
        self._add(await curl_finding(image))
        self._add(await asyncio.to_thread(_artifact_finding, self._request.artifact, model))
        await self._check_running(Subject(self._request, image, model))

    def _tell_of_pull(self, fraction: float) -> None:
        if fraction == 0:
            self._note(f"pulling {self._request.image}")

    async def _check_running(self, subject: Subject) -> None:
        user = UNPRIVILEGED_USER if subject.image.runs_as_root else None
        strict = Confinement(user=user)
        self._note(f"starting the container as {user or subject.image.user}")
        trial = await run_trial(subject, strict)
        self.output = trial.output
        if finding := loopback_finding(self._request, trial):
            self._add(finding)
        if not trial.healthy:
            finding = await diagnose(subject, strict, self._note)
            self._add(finding or unhealthy_finding(trial))
        self._add(ok("user", f"healthy as {user or subject.image.user}, without capabilities"))
        self._add(ok("file system", "healthy with a read-only artifact and root file system"))
        self._add(ok("health", f"healthy after {trial.seconds:.1f} seconds"))
        self._add(listening_finding(self._request, trial))
        self._add(stop_finding(self._request, trial))

    def _add(self, finding: Finding) -> None:
        self.findings.append(finding)
        self._tell(finding)
        if finding.outcome is Outcome.VIOLATION:
            raise _ViolatedError


def _artifact_finding(artifact: Path, model: Path) -> Finding:
    """Whether the artifact can be laid out as the cloud does it, which is done. Blocks."""
    try:
        if artifact.is_dir():
            copy_unpacked(artifact, model)
        else:
            unpack(artifact, model)
    except (ArtifactError, OSError) as error:
        return violation(
            "artifact", str(error), "give a zip archive of regular files, or a directory"
        )
    return ok("artifact", f"is read-only at {DEPLOYED_MODEL_PATH}")
