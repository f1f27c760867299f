"""The checks in their order, up to the first violation."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from local_oci.contract_check.leftovers import check_directory, remove_left_containers
from local_oci.contract_check.report import (
    CheckRequest,
    Finding,
    Outcome,
    Report,
    ok,
    violation,
    warning,
)
from local_oci.contract_check.trial import (
    UNPRIVILEGED_USER,
    EngineImage,
    ListeningSocket,
    Note,
    Subject,
    Trial,
    diagnose,
    find_image,
    has_curl,
    run_trial,
)
from local_oci.http.errors import ServiceError
from local_oci.limits import COMMAND_BYTES, DEPLOYED_MODEL_PATH, ENVIRONMENT_BYTES, MIN_PORT
from local_oci.runtime.artifact import ArtifactError, copy_unpacked, unpack
from local_oci.runtime.docker_container import Confinement
from local_oci.runtime.runner import PullError, PullReport
from local_oci.runtime.runners import pull_image, split_reference
from local_oci.services.deployments.rules import (
    check_command,
    check_environment,
    check_port,
    is_allowed_port,
)

Tell = Callable[[Finding], None]
# [inferred] the shapes for custom containers that local_oci lists are x86 machines.
_PLATFORM = "linux/amd64"
_PORTS = "ports in use"
_KILLED = "was killed by SIGKILL"


class _ViolatedError(Exception):
    """The contract is broken; the rest need not be asked."""


async def check(request: CheckRequest, tell: Tell, note: Note) -> Report:
    """Check an image with an artifact; nothing is left but the image, if it had to be pulled.

    What a check that was killed left is removed as well.

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


# --- the configuration, by the rules of the deployments service -------------------------------


def command_finding(request: CheckRequest) -> Finding:
    """Whether cmd and entrypoint are short enough."""
    return _rule_finding(
        "command",
        lambda: check_command(request.entrypoint, request.cmd),
        f"less than {COMMAND_BYTES} bytes",
        "put the words into a script in the image or in the artifact",
    )


def environment_finding(request: CheckRequest) -> Finding:
    """Whether the variables have allowed names and are short enough."""
    return _rule_finding(
        "environment",
        lambda: check_environment(request.environment),
        f"allowed names, less than {ENVIRONMENT_BYTES} bytes",
        "rename or shorten variables, or put them into a file of the artifact",
    )


def ports_finding(request: CheckRequest) -> Finding:
    """Whether both ports are allowed."""

    def check() -> None:
        check_port("serverPort", request.server_port)
        check_port("healthCheckPort", request.health_port)

    return _rule_finding(
        "ports",
        check,
        f"allowed: {request.server_port} for requests, {request.health_port} for health",
        "choose another --port or --health-port",
    )


def _rule_finding(name: str, check: Callable[[], None], good: str, remedy: str) -> Finding:
    try:
        check()
    except ServiceError as refusal:
        return violation(name, refusal.message.rstrip("."), remedy)
    return ok(name, good)


# --- the image --------------------------------------------------------------------------------


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


# --- a run of the container -------------------------------------------------------------------


def loopback_finding(request: CheckRequest, trial: Trial) -> Finding | None:
    """The violation that one of the two ports can be reached from inside alone [inferred]."""
    for port in (request.health_port, request.server_port):
        places = {socket.loopback for socket in trial.sockets or () if socket.port == port}
        if places == {True}:
            return violation(
                _PORTS,
                f"listens on port {port} of 127.0.0.1 only, where no request arrives",
                "let the server listen on 0.0.0.0",
            )
    return None


def listening_finding(request: CheckRequest, trial: Trial) -> Finding:
    """Whether a healthy container listens where it must, and nowhere where it must not."""
    if trial.sockets is None:
        return warning(
            _PORTS,
            "which ports it listens on cannot be seen from here",
            "run the check on the machine of the Docker engine",
        )
    listening = sorted({socket.port for socket in trial.sockets})
    for port in listening:
        if not is_allowed_port(port):
            why = f"below {MIN_PORT}" if port < MIN_PORT else "which the service keeps for itself"
            return violation(
                _PORTS, f"listens on port {port}, {why}", "let it listen on another port"
            )
    if request.server_port not in listening:
        return violation(
            _PORTS,
            f"nothing listens on the server's port, {request.server_port}; "
            f"there is {_ports(trial.sockets)}",
            "give the port of the inference server with --port",
        )
    return ok(_PORTS, _ports(trial.sockets))


def stop_finding(request: CheckRequest, trial: Trial) -> Finding:
    """Whether it ends when it is asked to."""
    if trial.end is None or trial.end == _KILLED:
        return warning(
            "stop",
            f"did not end within {request.stop_grace} seconds after SIGTERM",
            "let process 1 of the container end at SIGTERM, for instance by exec in its script",
        )
    return ok("stop", f"after SIGTERM it {trial.end}")


def unhealthy_finding(trial: Trial) -> Finding:
    """The violation that it is not healthy whatever it may do."""
    seen = f" (it listens on {_ports(trial.sockets)})" if trial.sockets else ""
    return violation(
        "health",
        f"{trial.problem}{seen}",
        "see what it wrote; --timeout gives it more time, the cloud gives it 10 minutes",
    )


def _ports(sockets: frozenset[ListeningSocket]) -> str:
    return ", ".join(map(str, sorted({socket.port for socket in sockets}))) or "none"
