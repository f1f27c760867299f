"""What is to be checked, and what was found, for people and as JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """An image with an artifact, configured as a deployment would be.

    Args:
        image: reference of an image that the Docker engine has or can pull.
        artifact: zip archive or directory.
        entrypoint: as in the deployment's configuration.
        cmd: as in the deployment's configuration.
        server_port: port of the inference server.
        health_port: port of the health check.
        environment: the user's variables.
        timeout: seconds that the container has to become healthy.
        stop_grace: seconds that it has to end after SIGTERM.
    """

    image: str
    artifact: Path
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    server_port: int
    health_port: int
    environment: dict[str, str]
    timeout: float
    stop_grace: int


class Outcome(StrEnum):
    """How one check came out."""

    OK = "ok"
    WARNING = "warning"
    VIOLATION = "violation"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    check: str
    outcome: Outcome
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All findings up to the first violation.

    Args:
        image: reference of the image.
        findings: in the order of the checks.
        output: last lines that the container wrote, if it was started.
    """

    image: str
    findings: Sequence[Finding]
    output: Sequence[str]

    @property
    def passed(self) -> bool:
        """Whether the contract is kept."""
        return all(finding.outcome is not Outcome.VIOLATION for finding in self.findings)


def ok(check: str, text: str) -> Finding:
    """A finding that is as it should be."""
    return Finding(check, Outcome.OK, text)


def warning(check: str, text: str, remedy: str) -> Finding:
    """A finding that breaks nothing."""
    return Finding(check, Outcome.WARNING, text, remedy)


def violation(check: str, text: str, remedy: str) -> Finding:
    """A finding that ends the check."""
    return Finding(check, Outcome.VIOLATION, text, remedy)


def line_of(finding: Finding) -> str:
    """A finding for people; the remedy has a line of its own."""
    line = f"{finding.outcome:<9}  {finding.check}: {finding.text}"
    return f"{line}\n{'':11}{finding.remedy}" if finding.remedy else line


def verdict_of(report: Report) -> str:
    """What comes after the findings' lines."""
    if report.passed:
        return f"{report.image} keeps the contract."
    lines = [f"{report.image} breaks the contract."]
    if report.output:
        lines += ["Last lines of the container:", *(f"    {line}" for line in report.output)]
    return "\n".join(lines)


def json_of(report: Report) -> str:
    """The report as one JSON object."""
    return json.dumps({**asdict(report), "passed": report.passed}, indent=2)
