"""Whether the kernel lets this user make the namespaces that keep local deployments apart."""

from __future__ import annotations

import os
import shutil
import subprocess

from falconry.doctor.subject import Subject
from falconry.findings import Finding

NAME = "namespaces"
_TIMEOUT_S = 5.0
# What local_oci's process runner makes; root needs no user namespace for it.
_KINDS = ("--mount", "--ipc", "--pid", "--net", "--fork")
_OF_A_USER = ("--user", "--map-current-user")


def namespaces(subject: Subject) -> Finding:
    """Makes the namespaces for a moment; without them deployments run, and less apart."""
    emulator = subject.settings.cloud.emulator
    if emulator is None:
        return Finding(NAME, "skipped", "not needed: the profile's cloud is not the local one")
    if emulator.isolation == "plain":
        return Finding(NAME, "skipped", "not needed: the profile's isolation is plain")
    program = shutil.which("unshare")
    if program is None:
        return Finding(NAME, "skipped", "cannot be tried without the unshare program")
    if refusal := _refusal(program):
        return Finding(
            NAME,
            "failed" if emulator.isolation == "namespaces" else "skipped",
            f"this machine refuses them ({refusal}): processes of deployments are not kept apart",
            "allow user namespaces, such as by sysctl user.max_user_namespaces, or run as root",
        )
    return Finding(NAME, "ok", "deployments that run as processes are kept apart")


def _refusal(program: str) -> str:
    """What keeps namespaces from being made; empty if nothing."""
    of_whom = () if os.geteuid() == 0 else _OF_A_USER
    try:
        tried = subprocess.run(
            [program, *of_whom, *_KINDS, "true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {_TIMEOUT_S:g} s"
    lines = tried.stderr.strip().splitlines()
    return "" if tried.returncode == 0 else (lines[-1] if lines else "no reason given")
