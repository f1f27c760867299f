"""Checks of the cloud account, the clock and registries."""

from __future__ import annotations

import shutil
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from falconry.docker_engine.images import is_loopback
from falconry.doctor.subject import Subject
from falconry.errors import CloudError, MachineError
from falconry.findings import Finding, verdict
from falconry.image.output import REGISTRY_PROGRAM
from falconry.library_errors import setting_error

if TYPE_CHECKING:
    from requests import Response

_TIMEOUT_S = (3.0, 5.0)
# The statuses of the API's root, without or with a login (distribution, docs/spec/api.md, API
# Version Check).
_A_REGISTRY = (200, 401)
ACCOUNT = "cloud"
CLOCK = "clock"
POLICIES = "policies"
# A request whose date is further off is refused with 401 (Oracle, "Request Signatures").
_LARGEST_SKEW_S = 300
REGISTRY = "registry"
PROGRAM = "own registry"


def answers(registry: str) -> None:
    """Checks that the registry of a host answers without a login.

    Raises:
        MachineError: it cannot be reached, or is no registry.
    """
    scheme = "http" if is_loopback(registry) else "https"
    response = ask(f"{scheme}://{registry}/v2/")
    if response.status_code not in _A_REGISTRY:
        raise MachineError(
            f"{registry} does not answer like a container registry (status {response.status_code})",
            remedy="check the registry's name",
        )


def ask(url: str) -> Response:
    """Returns a server's answer to a GET without login, with any status.

    Raises:
        MachineError: there is none.
    """
    import requests

    host = urlsplit(url).netloc
    try:
        with requests.Session() as session:
            # A proxy named in the environment knows nothing of our loopback.
            session.trust_env = not is_loopback(host)
            # A function for `auth`, so that no entry of ~/.netrc is sent.
            return session.get(
                url, timeout=_TIMEOUT_S, allow_redirects=False, auth=lambda request: request
            )
    except (requests.RequestException, OSError) as error:
        raise setting_error(error) or MachineError(
            f"{host} cannot be reached ({type(error).__name__})",
            remedy="check the name, the network and the proxy",
        ) from None


def account(subject: Subject) -> Finding:
    """Checks the configuration file and its key, without a request."""
    from falconry.cloud.identity import account_of, config_file_of

    settings = subject.settings.cloud
    file = config_file_of(settings)
    if settings.emulator and not file.exists():
        written = "the local cloud writes it on its first start"
        return Finding(ACCOUNT, "skipped", f"{file} is not there: {written}")
    return Finding(ACCOUNT, "ok", f"{file}: {account_of(settings)}")


def clock(subject: Subject) -> Finding:
    """Checks this machine's clock against the date of the cloud's answer."""
    from falconry.cloud.identity import endpoint_of

    settings = subject.settings.cloud
    if settings.emulator:
        return Finding(CLOCK, "skipped", "not needed: the local cloud uses this machine's")
    try:
        url = endpoint_of(settings)
    except CloudError:
        return Finding(CLOCK, "failed", f"not known without an endpoint, see {ACCOUNT}")
    return of_server(url)


def of_server(url: str) -> Finding:
    """Checks this machine's clock against a server's."""
    date = ask(url).headers.get("Date", "")
    try:
        skew = time.time() - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return Finding(CLOCK, "skipped", f"not known: {url} gives no date")
    return verdict(
        CLOCK,
        abs(skew) < _LARGEST_SKEW_S,
        f"{abs(skew):.0f} s from that of {url}",
        f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} that of {url}, which refuses"
        f" requests from {_LARGEST_SKEW_S} s on",
        "set this machine's clock, such as by NTP",
    )


def policies(subject: Subject) -> Finding:
    """Checks the policies that can be read for the rights of deployments and services."""
    from falconry.cloud import emulator

    settings = subject.settings
    if emulator.is_stopped(settings.cloud.emulator):
        return Finding(POLICIES, "skipped", "not known: the local cloud is not running")
    from falconry.cloud.session import session_of
    from falconry.deployment.account import read_policies
    from falconry.deployment.preflight.service_checks import policy_findings

    account = read_policies(session_of(settings.cloud), settings)
    found = list(policy_findings(account, staged=True, jobs=settings.engine.run == "job"))
    missing = [each for each in found if each.state == "warning"]
    if missing:
        text = "; ".join(each.text for each in missing)
        return Finding(POLICIES, "warning", text, "run make policies for all statements")
    if any(each.state == "skipped" for each in found):
        return Finding(POLICIES, "skipped", found[0].text, "run make policies for the statements")
    return Finding(POLICIES, "ok", f"statements give {len(found)} rights; those of users unchecked")


def registry(subject: Subject) -> Finding:
    """Checks that the registry answers and accepts the profile's login."""
    found = subject.registry()
    if found is None:
        return Finding(REGISTRY, "skipped", "not needed: the local cloud starts its own")
    answers(found.host)
    if found.log_in is None:
        return Finding(REGISTRY, "ok", f"{found.host} answers; no login is set")
    found.log_in()
    return Finding(REGISTRY, "ok", f"{found.host} answers and takes the login")


def registry_program(subject: Subject) -> Finding:
    """Checks that the local cloud can run a registry."""
    settings = subject.settings
    if settings.cloud.emulator is None or settings.image.registry.host:
        return Finding(PROGRAM, "skipped", "not needed: the profile has one elsewhere")
    if path := shutil.which(REGISTRY_PROGRAM):
        return Finding(PROGRAM, "ok", path)
    without = "" if subject.containers else ": deployments run as processes"
    return Finding(
        PROGRAM,
        "failed" if subject.containers else "skipped",
        f"{REGISTRY_PROGRAM} is not installed{without}",
        f"run: sudo apt-get install {REGISTRY_PROGRAM}",
    )
