"""The job's image: the toolchain's by digest, and one layer with the transfer program.

The layer has `engine/transfer.py` and the `oci` package with what that needs, all at the versions
and digests of requirements.lock, in a directory that no program of the toolchain looks into. The
image is made in the registry, from one registry to the other.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import io
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from falconry.data_files import project_file
from falconry.digests import bytes_digest, value_digest
from falconry.docker_engine.configuration import docker_login
from falconry.docker_engine.images import ImageReference
from falconry.engine.toolchain import Toolchain
from falconry.errors import ImageError
from falconry.image.registry import ImageRegistry, RegistryClient
from falconry.image.registry_copy import Layer, copy_image, find_source
from falconry.pipeline import Report

NAME = "toolchain"
"""What the repository is called, below the profile's prefix."""

# jobs-byoc.htm: an image for a job has 25 GB at most.
MOST_BYTES = 25 * 10**9

_TRANSFER = "engine/transfer.py"
_LOCK = "requirements.lock"
_DIRECTORY = "falconry-job"
_WORK = "falconry"
COMMAND = ("python3", f"/{_DIRECTORY}/transfer.py")
"""What a job of the image runs."""

# Services of Oracle's that the job speaks to; the others' clients are nine tenths of the package.
_SERVICES = frozenset({"auth", "dns", "object_storage", "secrets", "work_requests"})
_REQUIREMENT = re.compile(r"^([A-Za-z0-9][\w.-]*)==(?:.*\\\n)(?:    --hash=.*\n)+", re.MULTILINE)
# Manylinux of glibc 2.17 to 2.34; the toolchain's images have Ubuntu 24.04 (glibc 2.39).
_PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_28_x86_64", "manylinux_2_34_x86_64")
_COMMENT = "Falconry: oci and the transfer program of engine builds"


class JobImage:
    """The image that a toolchain's builds run in as jobs.

    `packages` fills a directory with the Python packages of the layer; pip does when left out.
    """

    def __init__(
        self,
        registry: ImageRegistry,
        reference: str,
        row: Toolchain,
        packages: Callable[[Path, str], None] | None = None,
    ) -> None:
        self._registry = registry
        self._reference = ImageReference.parse(reference)
        self._row = row
        self._packages = packages or install_packages
        self._source_login = docker_login(self._reference.host())

    def ensure(self, report: Report) -> tuple[str, str, str]:
        """Has the image in the registry; gives its reference, its digest and the toolchain's.

        Raises:
            ImageError: a registry refuses, or the image is too large for a job.
        """
        report("looking for the toolchain's image", None)
        host = self._reference.host()
        ours = host == self._registry.host
        login = (
            self._registry.credentials(self._reference.repository) if ours else self._source_login
        )
        source = find_source(RegistryClient(host, login), self._reference)
        if source.size > MOST_BYTES:
            raise ImageError(
                f"has {source.size / 1e9:.1f} GB, and a job's image may have"
                f" {MOST_BYTES / 1e9:.0f} GB",
                where=str(self._reference),
                remedy="choose another toolchain, or build on a host: engine.run=host",
            )
        repository = self._registry.repository(NAME)
        tag = f"{self._row.release}-{self._identity(source.digest)[:12]}"
        target = RegistryClient(self._registry.host, self._registry.credentials(repository))
        digest = target.digest(repository, tag)
        if digest is None:
            self._registry.prepare(repository)
            report("making the job's layer", None)
            with tempfile.TemporaryDirectory() as directory:
                layer = self._layer(Path(directory))
                digest = copy_image(
                    source,
                    target,
                    repository,
                    tag,
                    layer,
                    lambda part: report("copying the toolchain's image", part),
                )
        name = ImageReference(self._reference.registry, self._reference.repository)
        pinned = f"{name}@{self._reference.digest or source.digest}"
        return f"{self._registry.host}/{repository}:{tag}", digest, pinned

    def _identity(self, source: str) -> str:
        """Decides the image's content, as far as it can be known before it is made."""
        parts = [source, self._row.python, locked_requirements()]
        parts.append(bytes_digest(project_file(_TRANSFER).read_bytes()))
        return value_digest(parts).removeprefix("sha256:")

    def _layer(self, directory: Path) -> Layer:
        packages = directory / "packages"
        self._packages(packages, self._row.python)
        path = directory / "layer.tar.gz"
        tar = _Digesting()
        with (
            path.open("wb") as file,
            gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as zipped,
        ):
            tar.output = zipped
            _write_layer(tar, packages)
        with path.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        return Layer(path, f"sha256:{digest}", f"sha256:{tar.digest.hexdigest()}", _COMMENT)


class _Digesting(io.RawIOBase):
    """Passes what is written on, and hashes it."""

    output: gzip.GzipFile

    def __init__(self) -> None:
        super().__init__()
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        content = bytes(data)  # type: ignore[call-overload]
        self.digest.update(content)
        return self.output.write(content)


def locked_requirements() -> str:
    """The lines of requirements.lock for `oci` and what it needs, with their hashes."""
    wanted = set(_needed("oci"))
    text = project_file(_LOCK).read_text(encoding="utf-8")
    found = [match for match in _REQUIREMENT.finditer(text) if _plain(match[1]) in wanted]
    return "".join(match[0] for match in found)


def install_packages(directory: Path, python: str) -> None:
    """Installs the packages of the layer for a Python of the image.

    Raises:
        ImageError: pip cannot have them.
    """
    directory.mkdir(parents=True)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write(locked_requirements())
        requirements.flush()
        platforms = [f"--platform={platform}" for platform in _PLATFORMS]
        words = ["install", "--quiet", "--disable-pip-version-check", "--no-compile", "--no-deps"]
        words += ["--require-hashes", "--only-binary=:all:", f"--python-version={python}"]
        words += [*platforms, f"--target={directory}", f"--requirement={requirements.name}"]
        done = subprocess.run(
            [sys.executable, "-m", "pip", *words], capture_output=True, text=True, check=False
        )
    if done.returncode:
        said = (done.stderr.strip() or "no reason was given").splitlines()[-1]
        raise ImageError(
            f"the job's layer needs the oci package for Python {python}: {said}",
            where=_LOCK,
            remedy="check that pip reaches its index",
        )
    leave_out_services(directory)


def leave_out_services(packages: Path) -> None:
    """Removes the clients of services that the job does not speak to."""
    for service in (packages / "oci").iterdir():
        if service.name not in _SERVICES and next(service.glob("*_client.py"), None):
            shutil.rmtree(service)


def _needed(package: str) -> Iterator[str]:
    """A package and all that it needs, by the metadata of what is installed here."""
    waiting, known = [package], set()
    while waiting:
        name = _plain(waiting.pop())
        if name in known:
            continue
        known.add(name)
        yield name
        try:
            requires = importlib.metadata.requires(name) or ()
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform or Python
        plain = (line.partition(";") for line in requires)
        waiting += [
            re.split(r"[^A-Za-z0-9._-]", name.strip())[0]
            for name, _, marker in plain
            if "extra" not in marker
        ]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _write_layer(tar: _Digesting, packages: Path) -> None:
    """Writes the files in one order and with one time, so that the same files are one layer."""
    with tarfile.open(fileobj=tar, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(_entry(_WORK, 0o1777, directory=True))
        archive.addfile(_entry(_DIRECTORY, 0o755, directory=True))
        transfer = project_file(_TRANSFER).read_bytes()
        entry = _entry(f"{_DIRECTORY}/transfer.py", 0o644, len(transfer))
        archive.addfile(entry, io.BytesIO(transfer))
        for path in sorted(packages.rglob("*")):
            name = f"{_DIRECTORY}/packages/{path.relative_to(packages).as_posix()}"
            if path.is_dir():
                archive.addfile(_entry(name, 0o755, directory=True))
            elif path.suffix != ".pyc":
                with path.open("rb") as content_of:
                    archive.addfile(_entry(name, 0o644, path.stat().st_size), content_of)


def _entry(name: str, mode: int, size: int = 0, *, directory: bool = False) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, mode
    entry.type = tarfile.DIRTYPE if directory else tarfile.REGTYPE
    return entry
