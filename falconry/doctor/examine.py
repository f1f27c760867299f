"""Runs every check, one after the other: none can end the diagnosis or hold it up for long."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping

from falconry.doctor import cloud, disk, docker_engine, gpu, namespaces, python, registry
from falconry.doctor.subject import Subject
from falconry.errors import FalconryError
from falconry.findings import Finding

Check = Callable[[Subject], Finding]

_DEADLINE_S = 6.0

# By the names of their findings, in the order of the report.
CHECKS: Mapping[str, Check] = {
    python.NAME: python.python,
    namespaces.NAME: namespaces.namespaces,
    docker_engine.ENGINE: docker_engine.engine,
    docker_engine.BASE_IMAGE: docker_engine.base_image,
    disk.IMAGES: disk.image_disk,
    disk.BUILD: disk.build_disk,
    gpu.RUNTIME: gpu.runtime,
    gpu.GPU: gpu.gpus,
    registry.PROGRAM: registry.registry_program,
    registry.REGISTRY: registry.registry,
    cloud.ACCOUNT: cloud.account,
    cloud.CLOCK: cloud.clock,
}


def examine(
    subject: Subject,
    checks: Mapping[str, Check] = CHECKS,
    deadline_s: float = _DEADLINE_S,
) -> list[Finding]:
    """All findings, in the order of the checks; never raises.

    Args:
        subject: what to look at.
        checks: by name.
        deadline_s: how long each may take; one that takes longer is a finding too.
    """
    return [_in_time(name, check, subject, deadline_s) for name, check in checks.items()]


def _in_time(name: str, check: Check, subject: Subject, deadline_s: float) -> Finding:
    """A check's finding; the thread of one that hangs is left behind and ends with the process."""
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
        place = f"{error.where}: " if error.where else ""
        return Finding(name, "failed", f"{place}{error.problem}", error.remedy or "")
    except Exception as error:  # whatever it is, the other findings are worth having
        kind = type(error).__name__
        return Finding(name, "failed", f"could not be looked at ({kind})", "report this as a bug")
