"""The profile's account in the cloud, and whether this machine's clock is right enough for it."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

from falconry.doctor.reach import ask
from falconry.doctor.subject import Subject
from falconry.errors import CloudError
from falconry.findings import Finding

ACCOUNT = "cloud"
CLOCK = "clock"
# A request whose date is further off is refused with 401 (Oracle, "Request Signatures").
_LARGEST_SKEW_S = 300


def account(subject: Subject) -> Finding:
    """Whether the configuration file is valid and its key can be used; the cloud is not asked.

    Raises:
        CloudError: it is not.
    """
    from falconry.cloud.diagnosis import account_of

    settings = subject.settings.cloud
    if settings.emulator and not settings.config_file.expanduser().exists():
        written = "the local cloud writes it on its first start"
        return Finding(ACCOUNT, "skipped", f"{settings.config_file} is not there: {written}")
    return Finding(ACCOUNT, "ok", f"{settings.config_file}: {account_of(settings)}")


def clock(subject: Subject) -> Finding:
    """How far this machine's clock is from the cloud's, by the date of an answer.

    Raises:
        MachineError: the cloud does not answer.
    """
    from falconry.cloud.diagnosis import endpoint_of

    settings = subject.settings.cloud
    if settings.emulator:
        return Finding(CLOCK, "skipped", "not needed: the local cloud goes by this machine's")
    try:
        url = endpoint_of(settings)
    except CloudError:
        return Finding(CLOCK, "failed", f"not known without an endpoint, see {ACCOUNT}")
    return of_server(url)


def of_server(url: str) -> Finding:
    """How far this machine's clock is from a server's.

    Raises:
        MachineError: the server does not answer.
    """
    date = ask(url).headers.get("Date", "")
    try:
        skew = time.time() - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return Finding(CLOCK, "skipped", f"not known: {url} gives no date")
    if abs(skew) < _LARGEST_SKEW_S:
        return Finding(CLOCK, "ok", f"{abs(skew):.0f} s from that of {url}")
    return Finding(
        CLOCK,
        "failed",
        f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} that of {url}, which refuses"
        f" requests from {_LARGEST_SKEW_S} s on",
        "set this machine's clock, such as by NTP",
    )
