"""What a run of the container says about it."""

from __future__ import annotations

from local_oci.contract_check.report import Finding, ok, violation, warning
from local_oci.contract_check.request import CheckRequest
from local_oci.contract_check.sockets import ListeningSocket
from local_oci.contract_check.trial import Trial
from local_oci.limits import MIN_PORT
from local_oci.services.deployments.container_rules import is_allowed_port

_PORTS = "ports in use"
_KILLED = "was killed by SIGKILL"


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
