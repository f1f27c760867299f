"""Checks a built image before its push: configuration, size, short runs.

Files inside layers are not searched: the build context is a fixed list of the project's own files.
"""

from __future__ import annotations

import contextlib
import posixpath
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from falconry.docker_engine import containers
from falconry.docker_engine.client import translate_docker_errors
from falconry.docker_engine.configuration import docker_login
from falconry.docker_engine.containers import owner_labels, remove_abandoned
from falconry.docker_engine.images import ImageReference
from falconry.errors import FalconryError, ImageError
from falconry.findings import Finding, verdict
from falconry.image.registry import RegistryClient
from falconry.image.server_images import base_of
from falconry.oci_facts import ImageLimits, load_limits
from falconry.pipeline import Report
from falconry.progress import human_size

if TYPE_CHECKING:
    from docker.client import DockerClient
    from docker.models.containers import Container

RUN_LABEL = "io.falconry.preflight"

_SHELLS = ("sh", "ash", "bash", "dash", "ksh", "zsh")
_MINUTE_S = 60

# A shorter secret would be found by chance.
_SHORTEST_SECRET = 8
# NAME=value is a secret's when the name ends in one of these words. Not KEY alone: the Docker
# library's python images set GPG_KEY, a public key's fingerprint.
_SECRET_WORDS = (
    *("PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "SECRETS", "TOKEN", "CREDENTIAL"),
    *("CREDENTIALS", "APIKEY", "API_KEY", "ACCESS_KEY", "SECRET_KEY", "PRIVATE_KEY", "AUTH"),
)
# HF_HUB_DISABLE_IMPLICIT_TOKEN=1 is a switch.
_NOT_SECRET = ("0", "1", "true", "false", "yes", "no", "on", "off", "none", "null")
# NAME=value as builders write it into the history, build arguments too (`|1 NAME=value /bin/sh -c`,
# moby/moby, builder/dockerfile/dispatchers.go), and as options of commands (`--name=value`).
_ASSIGNMENT = re.compile(
    # A match begins at a word's first character only, and nothing is given back.
    r"""(?<![A-Za-z0-9_-])-*+([A-Za-z0-9_-]++)=("[^"]*+"|'[^']*+'|[^\s;|&]*+)"""
)
# Credentials by their form alone. Sources: huggingface.co/docs/hub/security-tokens; gitleaks,
# config/gitleaks.toml; mongodb/kingfisher (nvapi); RFC 3986, user information; RFC 7468.
_FORMS = {
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{34,}",
    "a GitHub token": r"\bgh[pousr]_[A-Za-z0-9._-]{36,}|\bgithub_pat_[A-Za-z0-9_]{82}",
    "a GitLab token": r"\bglpat-[A-Za-z0-9_-]{20}",
    "an AWS access key": r"\bA(?:KIA|SIA)[A-Z2-7]{16}\b",
    "an NVIDIA API key": r"\bnvapi-[A-Za-z0-9_-]{64}",
    "a password in a URL": r"""://[\w.~%+-]{1,64}:[^\s/:@"'`<>{}\[\]()$*\\,;|&]{3,128}@[\w-]+\.""",
    "a private key": r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY",
}
_SECRET_REMEDY = (
    "hand it over with RUN --mount=type=secret or at run time, build again, and change it if it"
    " was real"
)
_USER_REMEDY = "add USER with a number other than 0 to the end of the Dockerfile"

_TMPFS = {"/tmp": "rw,nosuid,nodev,mode=1777"}
_MOST_PROCESSES = 64
_MOST_CHARACTERS = 200
_REMOVAL_S = 10


@dataclass(frozen=True, slots=True)
class ImageSize:
    """What is known of an image's size before its push, in bytes.

    Attributes:
        own: unpacked, of the layers above the base; of all layers where no registry has the base.
        base: compressed, of the base's layers as their registry holds them.
    """

    own: int
    base: int
    layers: int

    @property
    def most(self) -> int:
        """The most that the image can have compressed."""
        return self.base + self.own


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """An image and what its checks found."""

    size: ImageSize
    findings: tuple[Finding, ...]


def check_image(
    client: DockerClient,
    reference: str,
    report: Report,
    *,
    labels: Sequence[str] = (),
    known_secrets: Sequence[str] = (),
    limits: ImageLimits | None = None,
) -> CheckedImage:
    """Checks an image that the engine holds; findings may be failures.

    Variables, labels and history must not contain any of the `known_secrets`.
    """
    limits = limits or load_limits().image
    report("reading the image's configuration", None)
    image = _inspect(client, reference)
    if image is None:
        raise ImageError(
            "the Docker engine holds no such image", where=reference, remedy="build it first"
        )
    with translate_docker_errors():
        steps = client.api.history(image["Id"])
    history = [str(step.get("CreatedBy") or "") for step in reversed(steps)]
    findings = [*configuration_findings(image, history, limits, labels, known_secrets)]
    size = _size_of(client, image, limits)
    findings += size_findings(size, limits)
    report("running the image for a moment", None)
    findings += running_findings(client, image["Id"])
    return CheckedImage(size, tuple(findings))


def _inspect(client: DockerClient, reference: str) -> Mapping[str, Any] | None:
    """The engine's `docker inspect` of an image; None without it."""
    from docker.errors import ImageNotFound

    with translate_docker_errors():
        try:
            found: Mapping[str, Any] = client.api.inspect_image(reference)
        except ImageNotFound:
            return None
    return found


def configuration_findings(
    image: Mapping[str, Any],
    history: Sequence[str],
    limits: ImageLimits,
    labels: Sequence[str],
    known_secrets: Sequence[str],
) -> Iterator[Finding]:
    """Checks an image's configuration, as the engine's API has it (`GET /images/{name}/json`).

    `history` has the commands that made it, as in `docker history`. Pure.
    """
    configuration = image.get("Config") or {}
    present: Mapping[str, str] = configuration.get("Labels") or {}
    yield _platform(image, limits)
    yield _start_command(configuration)
    yield _user(str(configuration.get("User") or ""))
    yield _labels(present, labels)
    known = [secret for secret in known_secrets if len(secret.encode()) >= _SHORTEST_SECRET]
    if short := len(known_secrets) - len(known):
        text = f"{short} with fewer than {_SHORTEST_SECRET} characters were not looked for"
        yield Finding("known secrets", "skipped", text)
    variables = {f"its variable {v.partition('=')[0]}": v for v in configuration.get("Env") or []}
    yield from _search("variables", variables, known)
    values = {f"its label {name}": f"{name}={value}" for name, value in present.items()}
    yield from _search("label values", values, known)
    commands = {f"step {number} of its history": step for number, step in enumerate(history, 1)}
    yield from _search("history", commands, known)


def is_root(user: str) -> bool:
    """Whether a user is root: by name, by number, or by default."""
    name = user.partition(":")[0].strip()
    return name in ("", "root") or (name.isdecimal() and int(name) == 0)


def _platform(image: Mapping[str, Any], limits: ImageLimits) -> Finding:
    platform = f"{image.get('Os')}/{image.get('Architecture')}"
    wanted = f"{limits.os}/{limits.architecture}"
    return verdict(
        "platform",
        platform == wanted,
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
            "failed",
            "it has neither ENTRYPOINT nor CMD, so nothing would start",
            'give the Dockerfile an ENTRYPOINT ["program", "argument"]',
        )
    return verdict(
        "start command",
        posixpath.basename(command[0]) not in _SHELLS or "-c" not in command[1:2],
        f"{name} {command[0]}",
        f"its {name} is in shell form ({command[0]} -c ...), so signals reach the shell and not the"
        " server",
        f'write {name} in exec form: {name} ["program", "argument"]',
    )


def _user(user: str) -> Finding:
    named = f"USER is {user}" if user else "it names no USER"
    return verdict("user", not is_root(user), user, f"it runs as root ({named})", _USER_REMEDY)


def _labels(present: Mapping[str, str], wanted: Sequence[str]) -> Finding:
    missing = [name for name in wanted if not present.get(name)]
    return verdict(
        "labels",
        not missing,
        f"all {len(wanted)} that are required",
        f"it lacks the labels {', '.join(missing)}",
        "add LABEL for each to the Dockerfile",
    )


def _search(check: str, texts: Mapping[str, str], known: Sequence[str]) -> Iterator[Finding]:
    """A failure for each credential in described texts, never quoting it."""
    found = [(where, what) for where, text in texts.items() for what in credentials(text, known)]
    for where, what in found:
        yield Finding(check, "failed", f"{where} contains {what}", _SECRET_REMEDY)
    if not found:
        yield Finding(check, "ok", f"{len(texts)} without a credential")


def credentials(text: str, known: Sequence[str]) -> list[str]:
    """What credentials a text holds: known secrets, or those that their form or name tells."""
    if any(secret in text for secret in known):
        return ["a secret of this project"]
    by_form = [name for name, form in _FORMS.items() if re.search(form, text)]
    return by_form or [f"a credential ({name})" for name in _secret_assignments(text)]


def _secret_assignments(text: str) -> Iterator[str]:
    """The names of variables, arguments and options whose values look like secrets."""
    for name, quoted in dict.fromkeys(_ASSIGNMENT.findall(text)):
        words = "_" + name.upper().replace("-", "_")
        value = quoted.strip("\"'")
        if not value or value.startswith("$") or value.lower() in _NOT_SECRET:
            continue
        if any(words.endswith(f"_{word}") for word in _SECRET_WORDS):
            yield name


def _size_of(client: DockerClient, image: Mapping[str, Any], limits: ImageLimits) -> ImageSize:
    layers: Sequence[str] = (image.get("RootFS") or {}).get("Layers") or []
    unpacked = int(image.get("Size") or 0)
    unknown = ImageSize(own=unpacked, base=0, layers=len(layers))
    reference = base_of((image.get("Config") or {}).get("Labels") or {})
    # An image that is small enough even unpacked needs no request to a registry.
    if unpacked <= limits.compressed_bytes or reference is None:
        return unknown
    base = _inspect(client, f"{reference.name}@{reference.digest}")
    if base is None:
        return unknown
    below, sizes = base["RootFS"]["Layers"], _registry_sizes(reference, limits)
    if len(sizes) != len(below) or list(layers[: len(below)]) != below:
        return unknown
    return ImageSize(own=unpacked - int(base["Size"]), base=sum(sizes), layers=len(layers))


def _registry_sizes(base: ImageReference, limits: ImageLimits) -> tuple[int, ...]:
    """The base's compressed layers; nothing where its registry does not give them."""
    client = RegistryClient(base.host(), docker_login(base.host()))
    platform = f"{limits.os}/{limits.architecture}"
    with contextlib.suppress(FalconryError, ValueError):  # a refusal, or an answer without JSON
        return client.layer_sizes(base.repository, base.version, platform)
    return ()


def size_findings(size: ImageSize, limits: ImageLimits) -> Iterator[Finding]:
    """Checks compressed size, pull time and number of layers. Pure.

    Only what is certain fails: the base's layers are known exactly, all others are counted
    unpacked, which is more than they have compressed.
    """
    yield _compressed_size(size, limits)
    yield _pull_time(size, limits)
    yield verdict(
        "layers",
        size.layers <= limits.layers,
        f"{size.layers} of {limits.layers} layers",
        f"it has {size.layers} layers, and Docker stacks {limits.layers}",
        "join RUN and COPY instructions of the Dockerfile",
    )


def _compressed_size(size: ImageSize, limits: ImageLimits) -> Finding:
    most, limit = human_size(size.most), human_size(limits.compressed_bytes)
    parts = f"{human_size(size.own)} unpacked"
    if size.base:
        parts = f"{human_size(size.base)} of its base, {parts} of its own"
    if size.most <= limits.compressed_bytes:
        return Finding("size", "ok", f"at most {most} compressed ({parts})")
    remedy = f"take out what the server does not need, or start from a smaller base image{_row()}"
    if size.base > limits.refused_bytes:
        text = f"it has more than OCI's {limit} compressed: {human_size(size.base)} of its base"
        return Finding("size", "failed", text, remedy)
    text = (
        f"it has up to {most} compressed ({parts}), and OCI takes {limit}, without saying how that"
        " is measured: the deployment may be refused"
    )
    return Finding("size", "warning", text, remedy)


def _row() -> str:
    # Only an image that is too large pays for the table.
    from falconry.engine.toolchain import load_toolchains

    smallest = min(load_toolchains().rows, key=lambda row: row.listed_gb)
    return f", such as that of engine.toolchain {smallest.release} ({smallest.listed_gb:g} GB)"


def _pull_time(size: ImageSize, limits: ImageLimits) -> Finding:
    rate = f"{human_size(limits.pull_bytes_per_second)} a second, which is assumed"
    least, most = (
        compressed / limits.pull_bytes_per_second / _MINUTE_S
        for compressed in (size.base, size.most)
    )
    return verdict(
        "pull time",
        least <= limits.pull_minutes,
        f"at most {most:.1f} minutes at {rate}",
        f"pulling its base takes {least:.1f} minutes at {rate}, and OCI waits"
        f" {limits.pull_minutes} minutes",
        "make the image smaller",
    )


def running_findings(client: DockerClient, image_id: str) -> Iterator[Finding]:
    """Runs an image as its own user, locked up in a container.

    The entrypoint is replaced, so the server does not start. The engine removes a container when
    it ends, even without its client; the next run removes those that a killed run never started.
    """
    remove_abandoned(client, RUN_LABEL)
    yield _curl(output_of_command(client, image_id, ["curl", "--version"]))
    yield _running_user(output_of_command(client, image_id, ["id", "-u"]))


def _curl(output: str) -> Finding:
    return verdict(
        "curl",
        output.startswith("curl "),
        " ".join(output.split()[:2]),
        f"curl does not run in it, and OCI's health check needs it ({_shortened(output)})",
        "install curl in the Dockerfile, where its USER can run it",
    )


def _running_user(output: str) -> Finding:
    unknown = f"its user is not known ({_shortened(output)})"
    return verdict(
        "running user",
        output.strip().isdecimal() and not is_root(output),
        output.strip(),
        "it runs as root" if is_root(output) else unknown,
        _USER_REMEDY,
    )


def output_of_command(client: DockerClient, image: str, command: list[str]) -> str:
    """Runs a command in the image, locked up; gives its output, or why it did not start."""
    container = None
    try:
        container = containers.create(
            client,
            image,
            entrypoint=command,
            command=[],
            name=f"falconry-preflight-{secrets.token_hex(4)}",
            labels={RUN_LABEL: image, **owner_labels()},
            network_mode="none",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            read_only=True,
            tmpfs=_TMPFS,
            pids_limit=_MOST_PROCESSES,
            log_config={"Type": "none"},
            healthcheck={"test": ["NONE"]},
            mounts=[],
            gpus=None,
            auto_remove=True,
        )
        pieces = (said.stdout + said.stderr for said in containers.output_of(container))
        return b"".join(pieces).decode("utf-8", "replace")
    except containers.RefusalError as refusal:
        return refusal.problem
    finally:
        if container:
            containers.discard(container)
            _wait_until_gone(container)


def _wait_until_gone(container: Container) -> None:
    """Waits for the removal that the engine itself has begun."""
    from docker.errors import DockerException
    from requests import RequestException

    with contextlib.suppress(DockerException, RequestException):
        container.wait(condition="removed", timeout=_REMOVAL_S)


def _shortened(output: str) -> str:
    line = " ".join(output.split())
    return line if len(line) <= _MOST_CHARACTERS else f"{line[:_MOST_CHARACTERS]}..."
