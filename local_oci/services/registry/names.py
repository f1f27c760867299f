"""Names of repositories and references to images. Pure.

The grammar is that of Docker distribution 2.8, reference/regexp.go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from local_oci.services.object_storage.models import NAMESPACE

# Of a whole name, namespace included (reference.NameTotalLengthMax).
_NAME_CHARACTERS = 255

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = rf"{_COMPONENT}(?:/{_COMPONENT})*"
_DIGEST = r"sha256:[0-9a-f]{64}"
_REFERENCE = re.compile(
    rf"{NAMESPACE}/(?P<repository>{_NAME})(?::(?P<tag>\w[\w.-]{{0,127}}))?(?:@(?P<digest>{_DIGEST}))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class ImageName:
    """An image in this tenancy's namespace.

    Args:
        repository: name of its repository, without the namespace.
        tag: its tag, if it is named by one.
        digest: its digest, if it is named by one; it decides, as with Docker.
    """

    repository: str
    tag: str | None
    digest: str | None


def parse_image_name(text: str) -> ImageName | None:
    """Read `<namespace>/<repository>[:<tag>][@<digest>]`; None if it is not of this namespace."""
    match = _REFERENCE.fullmatch(text)
    if match is None or len(path_of(match["repository"])) > _NAME_CHARACTERS:
        return None
    return ImageName(match["repository"], match["tag"], match["digest"])


def is_repository_name(text: str) -> bool:
    """Whether a repository can have this name."""
    return parse_image_name(path_of(text)) == ImageName(text, None, None)


def path_of(repository: str) -> str:
    """The repository's name in the registry, where the namespace is a part of it."""
    return f"{NAMESPACE}/{repository}"
