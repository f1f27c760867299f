"""What an image says of itself: the OCI image specification's annotations, and ours."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from falconry.data_files import project_file
from falconry.docker_engine.references import ImageReference
from falconry.image.source import KEY_LABEL, ImageSource

_ANNOTATION = "org.opencontainers.image"


def labels(source: ImageSource, key: str, bases: Mapping[str, str]) -> dict[str, str]:
    """All labels of an image.

    Args:
        source: what it is built from; its own labels are among them.
        key: the image stage's.
        bases: the base images by argument, with digests where known; the last one is what the
            image stands on.
    """
    base = ImageReference.parse(list(bases.values())[-1])
    found = {
        **source.labels,
        KEY_LABEL: key,
        f"{_ANNOTATION}.version": source.version,
        f"{_ANNOTATION}.base.name": f"{base.name}:{base.tag or 'latest'}",
    }
    if base.digest:
        found[f"{_ANNOTATION}.base.digest"] = base.digest
    if revision := _revision():
        found[f"{_ANNOTATION}.revision"] = revision
    return found


def base_of(labels: Mapping[str, str]) -> ImageReference | None:
    """The base that an image's labels name; None where they give no digest."""
    name = labels.get(f"{_ANNOTATION}.base.name")
    digest = labels.get(f"{_ANNOTATION}.base.digest")
    return ImageReference.parse(f"{name}@{digest}") if name and digest else None


def _revision() -> str | None:
    """The commit that this is, marked where files differ from it; None outside of git."""
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            cwd=project_file(),
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return result.stdout.strip() or None if result.returncode == 0 else None
