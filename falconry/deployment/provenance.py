"""A model's entry in the catalog, with its provenance and licence."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from falconry.checkpoint.files import licence_of
from falconry.checkpoint.source import CheckpointSource
from falconry.data_files import project_file, read_toml
from falconry.engine.manifest import Manifest
from falconry.settings import Settings

_LICENCES = "engine/published/licences.toml"
# The catalog's limit for a metadata item's value (Oracle, "Model Catalog", custom metadata).
_VALUE_CHARACTERS = 255


@dataclass(frozen=True, slots=True)
class Provenance:
    """The source tree that made a model; the URL has no password."""

    repository_url: str | None = None
    branch: str | None = None
    commit: str | None = None


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model for the catalog.

    Attributes:
        artifact_digest: `sha256:<hex>` of its artifact, which identifies it.
        name: its display name.
        environment: the versions of what made it, by name.
        facts: what else is known about it, by name.
    """

    artifact_digest: str
    name: str
    description: str
    environment: Mapping[str, str]
    facts: Mapping[str, str]
    provenance: Provenance

    @property
    def version_label(self) -> str:
        """A unique label in the model version set."""
        return self.artifact_digest.removeprefix("sha256:")[:12]


def entry_of(settings: Settings, artifact_digest: str, engine: Manifest, image: str) -> ModelEntry:
    """Makes the entry of an artifact with its engine and image."""
    facts = {
        "engine": engine.key,
        "recipe": settings.recipe,
        "checkpoint": _checkpoint(settings) or "the recipe's",
        "license": licence(settings) or "not known",
        "image": image,
    }
    return ModelEntry(
        artifact_digest=artifact_digest,
        name=settings.deployment.name,
        description=f"{settings.recipe}: {engine.description}",
        environment={"builder": engine.builder, **engine.toolchain},
        facts={name: value[:_VALUE_CHARACTERS] for name, value in facts.items()},
        provenance=provenance_of(project_file()),
    )


def licence(settings: Settings) -> str | None:
    """Finds the licence in the checkpoint or the list of published models."""
    text = _checkpoint(settings)
    if text is None:
        return None
    source = CheckpointSource.parse(text)
    directory = source.at_hand()
    own = licence_of(directory) if directory else None
    known = read_toml(project_file(_LICENCES))
    return own or (known.get(source.hub.repository) if source.hub else None)


def provenance_of(directory: Path) -> Provenance:
    """Reads the provenance of a source tree from git, if any."""
    commit = _git(directory, "rev-parse", "HEAD")
    if commit is None:
        return Provenance()
    url = _git(directory, "remote", "get-url", "origin")
    branch = _git(directory, "symbolic-ref", "--short", "-q", "HEAD")
    return Provenance(_without_secrets(url) if url else None, branch, commit)


def _checkpoint(settings: Settings) -> str | None:
    """Returns the checkpoint that the profile or its recipe names."""
    if settings.checkpoint:
        return settings.checkpoint
    path = project_file("engine/recipes") / f"{settings.recipe}.toml"
    model = read_toml(path).get("model")
    if not isinstance(model, dict):
        return None
    if model.get("path"):
        return str(model["path"])
    named = model.get("hub") and model.get("revision")
    return f"hub:{model['hub']}@{model['revision']}" if named else None


def _git(directory: Path, *words: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", *words], cwd=directory, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return result.stdout.strip() or None if result.returncode == 0 else None


def _without_secrets(url: str) -> str:
    """Removes user, password and token from a remote's URL."""
    parts = urlsplit(url)
    if not parts.scheme or parts.hostname is None:
        return url  # git@host:path, whose user is no secret
    host = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
