"""The report of a trial: redacted, as JSON and as Markdown."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from socket import gethostname
from typing import Any

from falconry.documents import parse_json, read_document
from falconry.files import atomic_write_text

RECORD, REPORT_JSON, REPORT = "record.json", "report.json", "report.md"
KNOWN = "local_oci.json"
PACKAGES = ("oci", "openvino-genai", "openai", "httpx")

_OCID = re.compile(r"ocid1\.([a-z0-9]+)\.[A-Za-z0-9._-]+")
_MAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")
_ADDRESS = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b")
# `iad.ocir.io/<namespace>/`, and the names of other realms (falconry/image/ocir.py).
_NAMESPACE = re.compile(r"(\b[\w-]+\.ocir\.io|\bocir\.[\w.-]+)/[^/\s\"]+/")
_FINGERPRINT = re.compile(r"\b[0-9a-f]{2}(?::[0-9a-f]{2}){15}\b")
_LOOPBACK = "127.0.0.1"
# Which rows of the table in docs/verification.md a step belongs to.
ROWS = {
    "catalog, artifact, deployment, rollback, logs, invocation": (
        "deploy",
        "ask",
        "stream",
        "update",
        "roll back",
        "logs",
    ),
    "OCIR: repository, login, push": ("image",),
    "OpenAI's API through the gateway": ("openai",),
}


@dataclass(frozen=True, slots=True)
class StepResult:
    """A step of a trial.

    Attributes:
        outcome: "done", or the error.
        facts: what is worth knowing, such as how many pieces a stream had.
    """

    name: str
    seconds: float
    outcome: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether it succeeded."""
        return self.outcome == "done"


@dataclass(frozen=True, slots=True)
class Record:
    """What a trial has recorded so far; written after each step, so that a kill loses one at most.

    Attributes:
        emulated: whether the services were local_oci's.
        ended: whether the trial came to its end.
        answers: what the cloud's services answered, by operation.
    """

    run: str
    profile: str
    began: str
    region: str
    shape: str
    limit_minutes: float
    cost_limit: str | None
    emulated: bool = False
    steps: list[StepResult] = field(default_factory=list)
    answers: Mapping[str, Mapping[str, list[str]]] = field(default_factory=dict)
    ended: bool = False

    def write(self, directory: Path) -> None:
        """Writes it where the guardian finds it."""
        atomic_write_text(directory / RECORD, json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, directory: Path) -> Record:
        """Reads what a trial wrote."""
        values = json.loads((directory / RECORD).read_text(encoding="utf-8"))
        steps = [StepResult(**each) for each in values.pop("steps")]
        return cls(**values, steps=steps)


def redact(text: str) -> str:
    """Returns a text without identifiers, users, addresses and paths of this account and machine.

    Equal OCIDs stay equal: `<datasciencemodel 1>`.
    """
    numbers: dict[str, dict[str, int]] = {}

    def numbered(found: re.Match[str]) -> str:
        known = numbers.setdefault(found[1], {})
        return f"<{found[1]} {known.setdefault(found[0], len(known) + 1)}>"

    text = _OCID.sub(numbered, text)
    text = _NAMESPACE.sub(r"\1/<namespace>/", text)
    text = _FINGERPRINT.sub("<fingerprint>", text)
    text = _MAIL.sub("<mail>", text)
    text = _ADDRESS.sub(lambda found: found[0] if found[0] == _LOOPBACK else "<address>", text)
    names = {str(Path.cwd()): "<project>", str(Path.home()): "<home>", gethostname(): "<host>"}
    for name, instead in names.items():
        if len(name) > 1:
            text = text.replace(name, instead)
    return text


def unknown_answers(
    answers: Mapping[str, Mapping[str, list[str]]],
    known: Mapping[str, Mapping[str, list[str]]],
) -> list[str]:
    """Returns what the services answered that local_oci did not, one line for each.

    Args:
        answers: statuses, fields and headers by operation.
        known: the same of local_oci.
    """
    lines = []
    for operation, parts in sorted(answers.items()):
        if operation not in known:
            lines.append(f"{operation}: unknown to local_oci")
            continue
        for part, values in parts.items():
            more = sorted(set(values) - set(known[operation].get(part, [])))
            less = sorted(set(known[operation].get(part, [])) - set(values))
            if more:
                lines.append(f"{operation}: {part} that local_oci does not give: {', '.join(more)}")
            if less and part == "fields":
                lines.append(f"{operation}: {part} that only local_oci gives: {', '.join(less)}")
    return lines


def write_report(
    directory: Path, removed: Sequence[Mapping[str, Any]], known: Mapping[str, Any]
) -> Path:
    """Writes the redacted report beside a trial's record; returns the Markdown file.

    Args:
        directory: of the record.
        removed: what was removed, with the problems.
        known: the answers of local_oci.
    """
    record = Record.read(directory)
    facts = {
        **asdict(record),
        "versions": versions(),
        "removed": removed,
        "unknown": unknown_answers(record.answers, known),
        "reported": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
    clean = json.loads(redact(json.dumps(facts, ensure_ascii=False)))
    atomic_write_text(directory / REPORT_JSON, json.dumps(clean, indent=1) + "\n")
    atomic_write_text(directory / REPORT, "\n".join(_markdown(clean)) + "\n")
    return directory / REPORT


def versions() -> dict[str, str]:
    """Returns the versions that a report names."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def _markdown(facts: Mapping[str, Any]) -> list[str]:
    steps = [StepResult(**each) for each in facts["steps"]]
    done = {each.name for each in steps if each.done}
    date = facts["began"][:10]
    problems = [each for each in facts["removed"] if each["problem"]]
    return [
        f"# make prove PROFILE={facts['profile']}, {date}",
        "",
        f"Region {facts['region']}, shape {facts['shape']}, at most {facts['limit_minutes']:.0f} "
        f"minutes{', ' + facts['cost_limit'] if facts['cost_limit'] else ''}. "
        + ", ".join(f"{name} {each}" for name, each in facts["versions"].items())
        + ("." if facts["ended"] else ". The trial was cut short."),
        "",
        "| step | seconds | outcome | |",
        "|---|---|---|---|",
        *(
            f"| {each.name} | {each.seconds:.1f} | {_cell(each.outcome)} | "
            f"{_cell(', '.join(f'{name} {value}' for name, value in each.facts.items()))} |"
            for each in steps
        ),
        "",
        f"Removed afterwards: {len(facts['removed']) - len(problems)} of {len(facts['removed'])}.",
        *(f"- {each['kind']} {each['id']}: {each['problem']}" for each in problems),
        "",
        "## For docs/verification.md",
        "",
        f"| | {'local_oci, and so not' if facts['emulated'] else 'on'} Oracle's cloud |",
        "|---|---|",
        *(
            f"| {row} | {_verdict(names, done)}, {date}, {facts['region']}, {facts['shape']}, "
            f"oci {facts['versions']['oci']} |"
            for row, names in ROWS.items()
        ),
        "",
        "## What the services answered that local_oci does not",
        "",
        *([f"- {line}" for line in facts["unknown"]] or ["Nothing."]),
    ]


def _verdict(names: Iterable[str], done: set[str]) -> str:
    missing = [name for name in names if name not in done]
    return f"not shown: {', '.join(missing)}" if missing else "yes"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def known_answers() -> Mapping[str, Any]:
    """Returns what local_oci answered in a trial of the profile `local`."""
    known: Mapping[str, Any] = parse_json(read_document(Path(__file__).with_name(KNOWN)))
    return known
