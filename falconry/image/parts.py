"""The list of an image's parts, in CycloneDX, and the list of their licences.

Listed are the packages of the distribution and of Python, what the image's labels name besides, and
its bases. What a wheel or a base has in it without a package of its own is not listed.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from falconry.digests import bytes_digest
from falconry.errors import ImageError
from falconry.files import atomic_write_text
from falconry.image.server_images import KEY_LABEL, TRITON_LABEL

if TYPE_CHECKING:
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import License

# Parts that no package manager of the image knows, by the label with their version.
_LABELLED = {
    TRITON_LABEL: ("tritonserver", "BSD-3-Clause"),
    "io.falconry.tensorrt-llm": ("tensorrt-llm", "Apache-2.0"),
    "io.falconry.tensorrt": ("tensorrt", "LicenseRef-NVIDIA-TensorRT-SLA"),
    "io.falconry.cuda": ("cuda", "LicenseRef-NVIDIA-CUDA-EULA"),
}
# Debian's short names (copyright-format 1.0) that SPDX has under others.
_SPDX = {
    "Expat": "MIT",
    "BSD-2-clause": "BSD-2-Clause",
    "BSD-3-clause": "BSD-3-Clause",
    "BSD-4-clause": "BSD-4-Clause",
    "Artistic": "Artistic-1.0-Perl",
    "MIT License": "MIT",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
}
_GNU = ("GPL-1", "GPL-2", "GPL-3", "LGPL-2", "LGPL-2.1", "LGPL-3", "GFDL-1.2", "GFDL-1.3")
_UNKNOWN = "not stated"

Name = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Package(_Strict):
    """An installed package, with the licences that it states."""

    name: Name
    version: str
    architecture: str = ""
    licences: tuple[str, ...] = ()


class Distribution(_Strict):
    """Name and version of a Linux distribution."""

    name: str = ""
    version: str = ""


class Installed(_Strict):
    """What falconry/image/installed.py prints."""

    distribution: Distribution
    debian: tuple[Package, ...]
    python: tuple[Package, ...]


@dataclass(frozen=True, slots=True)
class PartsFiles:
    """The files with an image's parts and with their licences."""

    parts: Path
    licences: Path

    @classmethod
    def beside(cls, receipt: Path) -> PartsFiles:
        """The files that belong to a receipt."""
        return cls(receipt.with_suffix(".cdx.json"), receipt.with_suffix(".licences.txt"))

    def digests(self, key: str) -> dict[str, str]:
        """Their digests by name; none unless they are of the image with this key.

        Those of another image are removed.
        """
        if is_list_of(self.parts, key):
            return {
                path.name: bytes_digest(path.read_bytes()) for path in (self.parts, self.licences)
            }
        for path in (self.parts, self.licences):
            path.unlink(missing_ok=True)
        return {}


@dataclass(frozen=True, slots=True)
class ListedImage:
    """What a list says of its image.

    Attributes:
        labels: with the versions of parts that are no packages.
        bases: references with digests, by the Dockerfile's argument.
    """

    name: str
    version: str
    key: str
    labels: Mapping[str, str]
    bases: Mapping[str, str]


def read_installed(output: str, where: str) -> Installed:
    """Reads what the script printed in an image.

    Raises:
        ImageError: it printed something else, such as why it did not start.
    """
    line = (output.strip().splitlines() or [""])[-1]
    try:
        return Installed.model_validate_json(line)
    except ValidationError:
        raise ImageError(
            f"the parts of the image cannot be listed ({line[:200] or 'no output'})",
            where=where,
            remedy="build it with docker/'s Dockerfiles, whose Python lists them",
        ) from None


def installed_here(names: Iterable[str]) -> Installed:
    """Some Python packages of this environment, which a process image runs."""
    from falconry.image.installed import python_packages

    wanted = {_normalized(name) for name in names}
    found = [Package.model_validate(each) for each in python_packages(sys.path)]
    return Installed(
        distribution=Distribution(),
        debian=(),
        python=tuple(each for each in found if _normalized(each.name) in wanted),
    )


def _normalized(name: str) -> str:
    """A Python package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def write_lists(image: ListedImage, installed: Installed, files: PartsFiles) -> None:
    """Writes the list of parts as JSON, and the licences as text."""
    from cyclonedx.output.json import JsonV1Dot6

    bom = _bom(image, installed)
    # Licences first: with the list of parts both are there.
    atomic_write_text(files.licences, _licence_table(bom.components))
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    # The same image has the same list, whenever it is written.
    del document["metadata"]["timestamp"]
    atomic_write_text(files.parts, json.dumps(document, indent=1))


def is_list_of(parts: Path, key: str) -> bool:
    """Whether a list of parts is there and is of the image with this key."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        component = json.loads(parts.read_text(encoding="utf-8"))["metadata"]["component"]
        return {"name": KEY_LABEL, "value": key} in component["properties"]
    return False


def _bom(image: ListedImage, installed: Installed) -> Bom:
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType

    bases = [
        Component(
            name=reference.partition("@")[0],
            version=reference.partition("@")[2] or None,
            type=ComponentType.CONTAINER,
            bom_ref=f"base:{argument}",
        )
        for argument, reference in sorted(image.bases.items())
    ]
    root = Component(
        name=image.name,
        version=image.version,
        type=ComponentType.CONTAINER,
        bom_ref="image",
        properties=[Property(name=KEY_LABEL, value=image.key)],
    )
    parts = [*bases, *_labelled(image.labels), *_packages(installed)]
    bom = Bom(components=parts, serial_number=uuid.uuid5(uuid.NAMESPACE_URL, image.key))
    bom.metadata.component = root
    bom.register_dependency(root, parts)
    return bom


def _labelled(labels: Mapping[str, str]) -> Iterable[Component]:
    from cyclonedx.model.component import Component, ComponentType

    for label, (name, licence) in _LABELLED.items():
        if label in labels:
            yield Component(
                name=name,
                version=labels[label],
                type=ComponentType.APPLICATION,
                bom_ref=f"part:{name}",
                licenses=_licences([licence]),
            )


def _packages(installed: Installed) -> Iterable[Component]:
    from cyclonedx.model.component import Component
    from packageurl import PackageURL

    distribution = installed.distribution
    urls = [
        *(
            (
                PackageURL(
                    "deb",
                    distribution.name or "debian",
                    each.name,
                    each.version,
                    {
                        "arch": each.architecture,
                        "distro": f"{distribution.name}-{distribution.version}",
                    },
                ),
                each,
            )
            for each in installed.debian
        ),
        *((PackageURL("pypi", None, each.name, each.version), each) for each in installed.python),
    ]
    for url, each in urls:
        yield Component(
            name=each.name,
            version=each.version,
            purl=url,
            bom_ref=url.to_string(),
            licenses=_licences(each.licences),
        )


def _licences(names: Iterable[str]) -> list[License]:
    """Licences for a component; CycloneDX takes an expression only if it is the only one."""
    from cyclonedx.contrib.license.factories import LicenseFactory

    factory = LicenseFactory()
    known = sorted({spdx_name(name) for name in names})
    if len(known) == 1:
        return [factory.make_from_string(known[0])]
    return [factory.make_with_name(name) if " " in name else _single(name) for name in known]


def _single(name: str) -> License:
    from cyclonedx.contrib.license.exceptions import InvalidSpdxLicenseException
    from cyclonedx.contrib.license.factories import LicenseFactory

    factory = LicenseFactory()
    try:
        return factory.make_with_id(name)
    except InvalidSpdxLicenseException:
        return factory.make_with_name(name)


def spdx_name(name: str) -> str:
    """SPDX's name of a licence that Debian or a classifier names otherwise."""
    if name in _SPDX:
        return _SPDX[name]
    plain = name.removesuffix("+").removesuffix(".0")
    if plain not in _GNU:
        return name
    number = plain if "." in plain else f"{plain}.0"
    return f"{number}-{'or-later' if name.endswith('+') else 'only'}"


def _licence_table(components: Iterable[Component]) -> str:
    """The licences, each with the parts that state it."""
    found: dict[str, list[str]] = {}
    for part in components:
        stated = [_name_of(licence) for licence in part.licenses] or [_UNKNOWN]
        for licence in stated:
            found.setdefault(licence, []).append(f"{part.name} {part.version or ''}".strip())
    rows = [
        f"{licence}\n" + "".join(f"    {part}\n" for part in sorted(found[licence]))
        for licence in sorted(found, key=str.casefold)
    ]
    return (
        "Licences that the image's parts state; the complete texts are in the image.\n\n"
        + "\n".join(rows)
    )


def _name_of(licence: License) -> str:
    from cyclonedx.model.license import LicenseExpression

    if isinstance(licence, LicenseExpression):
        return licence.value
    return licence.id or licence.name or _UNKNOWN
