"""The results of checks, and their form for people, programs and errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from falconry.errors import FalconryError
from falconry.progress import Progress

State = Literal["ok", "warning", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        check: what was checked, in a word or two.
        state: "warning" if a later step may fail; "skipped" if nothing was checked, because it is
            not needed or cannot be known here; "failed" if work must not continue.
        text: what was found, as a clause with its numbers; never a secret.
        remedy: what to do, as an imperative clause; empty if there is nothing to do.
    """

    check: str
    state: State
    text: str
    remedy: str = ""


def verdict(check: str, passed: bool, found: str, problem: str, remedy: str) -> Finding:
    """Makes a finding with `found`, or else `problem` and `remedy`."""
    if passed:
        return Finding(check, "ok", found)
    return Finding(check, "failed", problem, remedy)


def failures(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that must stop the work."""
    return [finding for finding in findings if finding.state == "failed"]


def refuse(
    findings: Iterable[Finding],
    error: type[FalconryError],
    subject: str,
    where: str | Path | None = None,
) -> None:
    """Raises one error that names every failure and its remedy.

    The subject is what several failures prevent, such as "this engine".
    """
    failed = failures(findings)
    if len(failed) == 1:
        raise error(failed[0].text, where=where, remedy=failed[0].remedy or None)
    if failed:
        listed = (f"({n}) {_with_remedy(each, ': ')}" for n, each in enumerate(failed, start=1))
        raise error(f"{len(failed)} things prevent {subject}: {'; '.join(listed)}", where=where)


def rows(findings: Sequence[Finding]) -> list[tuple[str, str, str]]:
    """Returns rows of check, `ok`, `warning`, `skipped` or `not ok`, text."""
    return [
        (each.check, "not ok" if each.state == "failed" else each.state, _with_remedy(each))
        for each in findings
    ]


def as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """The findings for programs; `ok` is null where nothing was checked."""
    ok = {"ok": True, "warning": True, "skipped": None, "failed": False}
    return [
        {"name": each.check, "ok": ok[each.state], "detail": each.text, "remedy": each.remedy}
        for each in findings
    ]


def show(findings: Sequence[Finding], progress: Progress) -> None:
    """Prints a line for each finding, marked like a stage."""
    for finding, (check, state, text) in zip(findings, rows(findings), strict=True):
        if finding.state == "failed":
            progress.failed(check, f"{state:<16}{text}")
        elif finding.state == "skipped":
            progress.waiting(check, f"{state:<16}{text}")
        else:
            progress.done(check, state, text)


def _with_remedy(finding: Finding, separator: str = "; ") -> str:
    return f"{finding.text}{separator}{finding.remedy}" if finding.remedy else finding.text
