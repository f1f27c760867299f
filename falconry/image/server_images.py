"""Which server images there are, and what each is built from."""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from falconry.data_files import project_file
from falconry.digests import bytes_digest, tree_files, value_digest
from falconry.docker_engine.images import ImageReference
from falconry.errors import SettingsError
from falconry.settings import ImageSettings, Settings

if TYPE_CHECKING:
    from falconry.engine.toolchain import Toolchain

# The base that scripts/base_image.sh makes; no registry has it.
MADE_HERE = "falconry-base"

_ANNOTATION = "org.opencontainers.image"
# Where this machine's own pip and requests find a private authority; a build's pip uses the same
# network.
_VARIABLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
KEY_LABEL = "io.falconry.key"
BASES_LABEL = "io.falconry.bases"
_DOCKERFILE = "Dockerfile"
_CERTIFICATE = "certificates/ca.crt"
_LOCK = "requirements.lock"
TITLE_LABEL = f"{_ANNOTATION}.title"
VERSION_LABEL = f"{_ANNOTATION}.version"
LICENSES_LABEL = f"{_ANNOTATION}.licenses"
_CPU_PACKAGES = "docker/triton-cpu.packages"
_GPU_PACKAGES = "docker/triton-trtllm.packages"
# Of the nvidia-pytriton wheel; its tritonserver is Triton's release 24.10.
CPU_TRITON = "2.51.0"
TRITON_LABEL = "io.falconry.tritonserver"
# Ours, and of the wheels: Triton and pytriton, OpenVINO, aiohttp and prometheus-client, numpy,
# aiohttp's own parts, and a decorator within prometheus-client.
_CPU_LICENSES = "Apache-2.0 AND BSD-3-Clause AND MIT AND PSF-2.0 AND MPL-2.0 AND BSD-2-Clause"

_NVIDIA_LICENSES = "Apache-2.0 AND LicenseRef-NVIDIA-Deep-Learning-Container"
# A requirement with its continuation lines: `name==version \` and `--hash=…` (pip's format).
_ROW = re.compile(r"^([a-z0-9._-]+)==[^\n]*(?:(?<=\\)\n[^\n]*)*\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Everything that decides an image.

    Attributes:
        name: the last part of the repository's name, such as `triton-cpu`.
        files: the build context beside the Dockerfile, by path.
        bases: the images that it is built from, by the Dockerfile's argument for each.
        labels: those that decide the image.
        directories: that the context has even when they are empty.
    """

    name: str
    version: str
    dockerfile: str
    files: Mapping[str, bytes]
    bases: Mapping[str, str]
    labels: Mapping[str, str]
    directories: tuple[str, ...] = field(default=("certificates",))

    def inputs(self) -> dict[str, str]:
        """The inputs of an image stage's key."""
        return {
            "name": f"{self.name}:{self.version}",
            "Dockerfile": bytes_digest(self.dockerfile.encode()),
            "files": value_digest({name: bytes_digest(data) for name, data in self.files.items()}),
            "base": ", ".join(self.bases[argument] for argument in sorted(self.bases)),
            "labels": value_digest(dict(self.labels)),
        }

    def context(self, certificates: Path | None) -> bytes:
        """The build context as a reproducible tar archive.

        Raises:
            OSError: the bundle cannot be read.
        """
        files = {_DOCKERFILE: self.dockerfile.encode(), **self.files}
        if certificates:
            files[_CERTIFICATE] = certificates.read_bytes()
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name in self.directories:
                entry = tarfile.TarInfo(name)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            for name, data in sorted(files.items()):
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(data), 0o644
                tar.addfile(entry, io.BytesIO(data))
        return archive.getvalue()


def server_files() -> dict[str, bytes]:
    """The entrypoint and the front for the build context of every image.

    Only Python files: whatever else is in the directory must not get into an image.
    """
    directory = project_file("docker/server")
    names = [name for name in tree_files(directory) if name.endswith(".py")]
    return {f"server/{name}": (directory / name).read_bytes() for name in names}


def server_image(settings: Settings) -> ImageSource:
    """The image of the profile's backends, or else its builder's."""
    if settings.engine.builder == "openvino" and not settings.image.compose:
        return cpu_image(settings)
    # A CPU image needs no table of NVIDIA's releases.
    from falconry.engine.toolchain import load_toolchains

    toolchain = load_toolchains().row(settings.engine.toolchain)
    if settings.image.compose:
        return composed_image(settings.image.compose, toolchain, settings.image)
    return trtllm_image(toolchain, settings.engine.image)


def cpu_image(settings: Settings) -> ImageSource:
    """Triton and the CPU engine on a plain Debian."""
    base = settings.image.base
    if base is None:
        raise SettingsError(
            "the CPU server image needs a base",
            where="image.base",
            remedy="name a Debian 12, such as debian:bookworm-slim",
        )
    return ImageSource(
        name="triton-cpu",
        version=CPU_TRITON,
        dockerfile=_text("docker/triton-cpu.Dockerfile"),
        files=_context_files(_CPU_PACKAGES),
        bases={"BASE": base},
        labels={
            TITLE_LABEL: "Falconry's Triton server for CPU engines",
            LICENSES_LABEL: _CPU_LICENSES,
            TRITON_LABEL: CPU_TRITON,
            "io.falconry.openvino": locked_version("openvino"),
        },
    )


def cpu_packages() -> list[str]:
    """The Python packages of the CPU server."""
    return _names(_text(_CPU_PACKAGES))


def trtllm_image(toolchain: Toolchain, image: str | None = None) -> ImageSource:
    """NVIDIA's image of a release, or the user's, with our front."""
    return ImageSource(
        name="triton-trtllm",
        version=toolchain.release,
        dockerfile=_text("docker/triton-trtllm.Dockerfile"),
        files=_context_files(_GPU_PACKAGES),
        bases={"BASE": image or toolchain.reference},
        labels={
            TITLE_LABEL: "Falconry's Triton server for TensorRT-LLM engines",
            LICENSES_LABEL: _NVIDIA_LICENSES,
            "io.falconry.toolchain": toolchain.release,
            "io.falconry.tensorrt-llm": toolchain.tensorrt_llm,
            "io.falconry.tensorrt": toolchain.tensorrt,
            "io.falconry.cuda": toolchain.cuda,
            "io.falconry.sm": ",".join(str(sm) for sm in toolchain.sm),
        },
    )


def composed_image(composition: str, toolchain: Toolchain, settings: ImageSettings) -> ImageSource:
    """Triton with chosen backends, for models that are not language models.

    The settings may name images in place of the release's.
    """
    from falconry.image.compose import (
        BaseImages,
        base_images,
        composed_dockerfile,
        image_name,
        parse_composition,
        require_composable,
    )

    wanted = parse_composition(composition)
    release = base_images(require_composable(wanted, toolchain))
    images = BaseImages(
        full=settings.compose_full or release.full,
        minimum=settings.compose_min or release.minimum,
    )
    return ImageSource(
        name=image_name(wanted),
        version=toolchain.release,
        dockerfile=composed_dockerfile(wanted, toolchain, images),
        files=_context_files(_GPU_PACKAGES),
        bases={"FULL": images.full, "MINIMUM": images.minimum},
        labels={
            TITLE_LABEL: f"Triton with {', '.join(wanted.backends)}, composed by Falconry",
            LICENSES_LABEL: _NVIDIA_LICENSES,
            "io.falconry.toolchain": toolchain.release,
            "io.falconry.backends": ",".join(wanted.backends),
        },
    )


def _context_files(packages: str) -> dict[str, bytes]:
    names = _names(_text(packages))
    rows = locked_rows(_text(_LOCK), names)
    return {"requirements.txt": rows.encode(), **server_files()}


def _text(name: str) -> str:
    return project_file(name).read_text(encoding="utf-8")


def _names(text: str) -> list[str]:
    """The package names of a list with comments."""
    words = (line.partition("#")[0].strip() for line in text.splitlines())
    return [word for word in words if word]


def locked_rows(lock: str, names: list[str]) -> str:
    """The rows of a lock file for some packages, with their digests."""
    rows = {found[1]: found[0] for found in _ROW.finditer(lock)}
    missing = sorted(set(names) - set(rows))
    if missing:
        raise SettingsError(
            f"has no row for {', '.join(missing)}", where=_LOCK, remedy="run: make lock"
        )
    return "".join(rows[name] for name in names)


def locked_version(name: str) -> str:
    """A package's version in requirements.lock."""
    row = locked_rows(_text(_LOCK), [name])
    return re.split(r"[\s;\\]", row.partition("==")[2], maxsplit=1)[0]


@dataclass(frozen=True, slots=True)
class Base:
    """A base image as it is built on.

    Attributes:
        name: with its tag.
        digest: of its registry's manifest; without a registry the engine's id of the image, which
            is the digest of its configuration.
        in_registry: which of the two.
    """

    name: str
    digest: str
    in_registry: bool

    @property
    def pinned(self) -> str:
        """The name with the digest."""
        return f"{self.name}@{self.digest}"

    @property
    def build_argument(self) -> str:
        """What FROM gets: a name whose digest the engine knows, or else its id."""
        return self.pinned if self.in_registry else self.digest


def labels(source: ImageSource, key: str, bases: Mapping[str, Base]) -> dict[str, str]:
    """All labels of an image: its source's, key, bases and commit.

    `bases` are by argument; the last is the image's own.
    """
    own = list(bases.values())[-1]
    base = ImageReference.parse(own.name)
    found = {
        **source.labels,
        KEY_LABEL: key,
        VERSION_LABEL: source.version,
        BASES_LABEL: " ".join(f"{argument}={bases[argument].pinned}" for argument in bases),
        f"{_ANNOTATION}.base.name": f"{base.name}:{base.tag or 'latest'}",
    }
    if own.in_registry:
        found[f"{_ANNOTATION}.base.digest"] = own.digest
    if revision := _revision():
        found[f"{_ANNOTATION}.revision"] = revision
    return found


def bases_of(labels: Mapping[str, str]) -> dict[str, str]:
    """The bases in an image's labels, with digests, by argument."""
    words = labels.get(BASES_LABEL, "").split()
    return {argument: base for argument, _, base in (word.partition("=") for word in words)}


def base_of(labels: Mapping[str, str]) -> ImageReference | None:
    """The base in an image's labels; None where no digest is given."""
    name = labels.get(f"{_ANNOTATION}.base.name")
    digest = labels.get(f"{_ANNOTATION}.base.digest")
    return ImageReference.parse(f"{name}@{digest}") if name and digest else None


def _revision() -> str | None:
    """This checkout's commit, marked where files differ; None outside git."""
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


def certificate_bundle(
    given: Path | None, environment: Mapping[str, str] = os.environ
) -> Path | None:
    """The profile's bundle, or else the environment's; None for neither."""
    if given:
        return given.expanduser()
    named = [Path(environment[name]) for name in _VARIABLES if environment.get(name)]
    return next((path for path in named if path.is_file()), None)
