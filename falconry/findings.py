"""What a check found, and how people and programs are told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from falconry.progress import Progress


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the diagnosis.

    Attributes:
        name: what was looked at.
        ok: None for what the profile does not need, and for what cannot be known here.
        detail: what was found; never a secret.
        remedy: what to do, as an imperative clause; empty where there is nothing to do.
    """

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""


def healthy(findings: Iterable[Finding]) -> bool:
    """Whether nothing is wrong that the profile needs."""
    return all(finding.ok is not False for finding in findings)


def rows(findings: Sequence[Finding]) -> list[tuple[str, str, str]]:
    """For each finding its name, its state (`ok`, `skipped`, `not ok`), and what to know."""
    states = {True: "ok", None: "skipped", False: "not ok"}
    return [(finding.name, states[finding.ok], _words(finding)) for finding in findings]


def facts(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """The findings for a program that goes on with them."""
    return [asdict(finding) for finding in findings]


def tell(findings: Sequence[Finding], progress: Progress) -> None:
    """Prints a line a finding, with the marks of stages."""
    for finding, (name, state, words) in zip(findings, rows(findings), strict=True):
        line = f"{state:<16}{words}"
        if finding.ok:
            progress.done(name, state, words)
        elif finding.ok is None:
            progress.waiting(name, line)
        else:
            progress.failed(name, line)


def _words(finding: Finding) -> str:
    return f"{finding.detail}; {finding.remedy}" if finding.remedy else finding.detail
