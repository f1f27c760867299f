"""Whether an artifact is where the server's command looks for it, and how it will be sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from falconry.findings import Finding, verdict
from falconry.oci_facts import ArtifactLimits
from falconry.preflight.subject import Artifact, Container
from falconry.progress import human_size

# Triton's own words for the directory (tritonserver --help); both may be given more than once.
_OPTIONS = ("--model-repository", "--model-store")
_CONFIG = "config.pbtxt"
_MOST_TOLD = 5


def artifact_findings(
    artifact: Artifact, container: Container, limits: ArtifactLimits
) -> Iterator[Finding]:
    """The findings of the artifact."""
    yield _size(artifact, limits)
    yield _names(artifact)
    places = _repositories([*container.entrypoint, *container.command])
    if not places:
        yield Finding(
            "model repository", "skipped", "the command names none: its place is not checked"
        )
    for place in places:
        yield _place(place, artifact, limits)


def _size(artifact: Artifact, limits: ArtifactLimits) -> Finding:
    size, most = artifact.size, limits.most_bytes
    if size > most:
        return Finding(
            "artifact size",
            "failed",
            f"the artifact has {human_size(size)}, and the catalog takes {human_size(most)}",
            "quantise the weights",
        )
    large = size > limits.direct_bytes
    way = "by way of a bucket" if large else "to the catalog itself"
    return Finding("artifact size", "ok", f"{human_size(size)} of {human_size(most)}, sent {way}")


def _names(artifact: Artifact) -> Finding:
    """Whether every entry is unpacked below the directory that is mounted."""
    wrong = [name for name in artifact.names if _leaves(name)]
    return verdict(
        "artifact names",
        not wrong,
        f"{len(artifact.names)} entries",
        f"{_some(wrong)} would be unpacked elsewhere",
        "name entries by relative paths with forward slashes",
    )


def _leaves(name: str) -> bool:
    return name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts


def _repositories(words: Sequence[str]) -> list[str]:
    """The directories that a command names, as `--option=value` or as two words."""
    found = []
    for word, following in zip(words, [*words[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        if option in _OPTIONS:
            found.append(value if equals else following)
    return found


def _place(place: str, artifact: Artifact, limits: ArtifactLimits) -> Finding:
    """Whether the artifact has models where the command says they are."""
    root, path = PurePosixPath(limits.mounted_at), PurePosixPath(place)
    if not path.is_relative_to(root):
        return Finding(
            "model repository",
            "failed",
            f"the command's model repository is {place}, and the artifact is unpacked at {root}",
            f"name a directory below {root}",
        )
    inside = path.relative_to(root)
    entries = [
        PurePosixPath(name).relative_to(inside).parts
        for name in artifact.names
        if PurePosixPath(name).is_relative_to(inside)
    ]
    models = sorted({parts[0] for parts in entries if len(parts) > 1})
    if not models:
        tops = sorted({PurePosixPath(name).parts[0] for name in artifact.names if name})
        return Finding(
            "model repository",
            "failed",
            f"the artifact has no models in {inside}/, where the command looks for them"
            f" (it has {_some(tops) or 'nothing'})",
            f"zip the repository as {inside}/",
        )
    lacking = [problem for model in models for problem in _lacks(model, entries)]
    if lacking:
        return Finding(
            "model repository", "failed", _some(lacking), "assemble the repository again"
        )
    return Finding("model repository", "ok", f"{len(models)} models in {place}")


def _lacks(model: str, entries: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """What Triton wants of a model (server, docs/user_guide/model_repository.md)."""
    own = [parts[1:] for parts in entries if parts[0] == model]
    if (_CONFIG,) not in own:
        yield f"the model {model} has no {_CONFIG}"
    if not any(len(parts) > 1 and parts[0].isdecimal() for parts in own):
        yield f"the model {model} has no version directory with a file in it"


def _some(words: Sequence[str]) -> str:
    more = len(words) - _MOST_TOLD
    return ", ".join(words[:_MOST_TOLD]) + (f" and {more} more" if more > 0 else "")
