"""Runs all checks in turn, each with a deadline."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping

from falconry.doctor import host_checks, network_checks
from falconry.doctor.subject import Subject
from falconry.errors import FalconryError
from falconry.findings import Finding
from falconry.library_errors import explain_exception

Check = Callable[[Subject], Finding]

_DEADLINE_S = 6.0

# By the names of their findings, in the order of the report.
CHECKS: Mapping[str, Check] = {
    host_checks.PYTHON: host_checks.python,
    host_checks.OPEN_FILES: host_checks.open_files,
    host_checks.NAMESPACES: host_checks.namespaces,
    host_checks.ENGINE: host_checks.engine,
    host_checks.BASE_IMAGE: host_checks.base_image,
    host_checks.IMAGES: host_checks.image_disk,
    host_checks.BUILD: host_checks.build_disk,
    host_checks.RUNTIME: host_checks.runtime,
    host_checks.GPU: host_checks.gpus,
    network_checks.PROGRAM: network_checks.registry_program,
    network_checks.REGISTRY: network_checks.registry,
    network_checks.ACCOUNT: network_checks.account,
    network_checks.CLOCK: network_checks.clock,
    network_checks.POLICIES: network_checks.policies,
}


def examine(
    subject: Subject,
    checks: Mapping[str, Check] = CHECKS,
    deadline_s: float = _DEADLINE_S,
) -> list[Finding]:
    """Returns the findings in the order of the checks; never raises.

    Args:
        subject: what to examine.
        checks: by name.
        deadline_s: how long each may take; a slow check becomes a failed finding.
    """
    return [_in_time(name, check, subject, deadline_s) for name, check in checks.items()]


def _in_time(name: str, check: Check, subject: Subject, deadline_s: float) -> Finding:
    """Runs a check; a hanging thread ends with the process."""
    done: queue.SimpleQueue[Finding] = queue.SimpleQueue()
    threading.Thread(target=lambda: done.put(_found(name, check, subject)), daemon=True).start()
    try:
        return done.get(timeout=deadline_s)
    except queue.Empty:
        return Finding(name, "failed", f"no answer within {deadline_s:g} s", "see what holds it up")


def _found(name: str, check: Check, subject: Subject) -> Finding:
    try:
        return check(subject)
    except FalconryError as error:
        known = error
    except Exception as error:  # any bug, so that the other findings are still reported
        known = explain_exception(error, subject.settings.build_directory.parent)
    where = f"{known.where}: " if known.where else ""
    return Finding(name, "failed", f"{where}{known.problem}", known.remedy or "")
