"""What an image says of itself: platform, start command, user, variables, labels, history. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from falconry.image.limits import Limits
from falconry.image.preflight.findings import Finding
from falconry.image.preflight.rules import Rules
from falconry.image.preflight.scan import Scanner

_SHELLS = ("sh", "ash", "bash", "dash", "ksh", "zsh")
# NAME=value as builders write it into the history, build arguments too (`|1 NAME=value /bin/sh -c`,
# moby/moby, builder/dockerfile/dispatchers.go), and as options of commands (`--name=value`).
_ASSIGNMENT = re.compile(
    r"""(?<![A-Za-z0-9_])([A-Za-z][A-Za-z0-9_-]*)=("[^"]*"|'[^']*'|[^\s;|&]*)"""
)
_SECRET_REMEDY = (
    "hand it over with RUN --mount=type=secret or at run time, build again, and change it if it"
    " was real"
)


def configuration_findings(
    image: Mapping[str, Any],
    history: Sequence[str],
    limits: Limits,
    labels: Sequence[str],
    rules: Rules,
    scanner: Scanner,
) -> Iterator[Finding]:
    """Checks an image's configuration.

    Args:
        image: as the engine's API gives it (`GET /images/{name}/json`).
        history: the commands that made it, as `docker history` gives them.
        limits: of the platform.
        labels: the names of the labels that it must have.
        rules: for variables.
        scanner: for their values.
    """
    configuration = image.get("Config") or {}
    yield _platform(image, limits)
    yield _start_command(configuration)
    yield _user(str(configuration.get("User") or ""))
    yield _labels(configuration.get("Labels") or {}, labels)
    yield from _variables(configuration.get("Env") or [], rules, scanner)
    yield from _history(history, rules, scanner)


def is_root(user: str) -> bool:
    """Whether a user, with or without a group, is root: by name, by number, or by default."""
    name = user.partition(":")[0].strip()
    return name in ("", "root") or (name.isdecimal() and int(name) == 0)


def _platform(image: Mapping[str, Any], limits: Limits) -> Finding:
    platform = f"{image.get('Os')}/{image.get('Architecture')}"
    wanted = f"{limits.os}/{limits.architecture}"
    if platform == wanted:
        return Finding("platform", platform)
    return Finding(
        "platform",
        platform,
        f"it is built for {platform}, and deployments run {wanted}",
        f"build it with --platform {wanted}",
    )


def _start_command(configuration: Mapping[str, Any]) -> Finding:
    entrypoint = list(configuration.get("Entrypoint") or [])
    command = entrypoint or list(configuration.get("Cmd") or [])
    name = "ENTRYPOINT" if entrypoint else "CMD"
    if not command:
        return Finding(
            "start command",
            "none",
            "it has neither ENTRYPOINT nor CMD, so nothing would start",
            'give the Dockerfile an ENTRYPOINT ["program", "argument"]',
        )
    fact = f"{name} {command[0]}"
    if posixpath.basename(command[0]) in _SHELLS and "-c" in command[1:2]:
        return Finding(
            "start command",
            fact,
            f"its {name} is in shell form ({command[0]} -c ...), so signals reach the shell and"
            " not the server",
            f'write {name} in exec form: {name} ["program", "argument"]',
        )
    return Finding("start command", fact)


def _user(user: str) -> Finding:
    if not is_root(user):
        return Finding("user", user)
    said = f"USER is {user}" if user else "it names no USER"
    remedy = "add USER with a number other than 0 to the end of the Dockerfile"
    return Finding("user", user or "none", f"it runs as root ({said})", remedy)


def _labels(present: Mapping[str, str], wanted: Sequence[str]) -> Finding:
    missing = [name for name in wanted if not present.get(name)]
    if not missing:
        return Finding("labels", f"{len(wanted)} of {len(wanted)} that are wanted")
    return Finding(
        "labels",
        f"{len(wanted) - len(missing)} of {len(wanted)} that are wanted",
        f"it lacks the labels {', '.join(missing)}",
        "add LABEL for each to the Dockerfile",
    )


def _variables(variables: Sequence[str], rules: Rules, scanner: Scanner) -> Iterator[Finding]:
    broken = list(_secret_variables("\n".join(variables), rules))
    if not broken and not any(map(scanner.text, variables)):
        yield Finding("variables", f"{len(variables)} without a credential")
        return
    for name in broken:
        yield _variable(name, f"its variable {name} holds a credential")
    for variable in variables:
        name = variable.partition("=")[0]
        for rule in scanner.text(variable) if name not in broken else ():
            yield _variable(name, f"its variable {name} holds {rule}")


def _variable(name: str, problem: str) -> Finding:
    return Finding("variables", name, problem, _SECRET_REMEDY)


def _history(history: Sequence[str], rules: Rules, scanner: Scanner) -> Iterator[Finding]:
    clean = True
    for number, command in enumerate(history, 1):
        told = [f"the value of {name}" for name in _secret_variables(command, rules)]
        for what in dict.fromkeys([*told, *scanner.text(command)]):
            clean = False
            where = f"step {number} of its history"
            yield Finding("history", where, f"{where} shows {what}", _SECRET_REMEDY)
    if clean:
        yield Finding("history", f"{len(history)} steps without a credential")


def _secret_variables(text: str, rules: Rules) -> Iterator[str]:
    """The names of variables, arguments and options whose values look like secrets."""
    for name, quoted in dict.fromkeys(_ASSIGNMENT.findall(text)):
        words = "_" + name.upper().replace("-", "_")
        value = quoted.strip("\"'")
        if not value or value.startswith("$") or value.lower() in rules.not_secret:
            continue
        if any(words.endswith(f"_{word}") for word in rules.words):
            yield name
