"""What a server image is built from: a Dockerfile, the files beside it, bases and labels."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from falconry.data_files import project_file
from falconry.digests import bytes_digest, tree_files, value_digest

KEY_LABEL = "io.falconry.key"
_DOCKERFILE = "Dockerfile"
_CERTIFICATE = "certificates/ca.crt"


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Everything that decides an image.

    Attributes:
        name: the last part of the repository's name, such as `triton-cpu`.
        version: what the image's tags begin with.
        dockerfile: the Dockerfile's text.
        files: the build context beside it, by path.
        bases: the images that it is built from, by the Dockerfile's argument for each.
        labels: what the image says of itself, as far as that decides it.
        directories: that the context has even when they are empty.
    """

    name: str
    version: str
    dockerfile: str
    files: Mapping[str, bytes]
    bases: Mapping[str, str]
    labels: Mapping[str, str]
    directories: tuple[str, ...] = field(default=("certificates",))

    def ingredients(self) -> dict[str, str]:
        """The ingredients of an image stage's key."""
        return {
            "name": f"{self.name}:{self.version}",
            "Dockerfile": bytes_digest(self.dockerfile.encode()),
            "files": value_digest({name: bytes_digest(data) for name, data in self.files.items()}),
            "base": ", ".join(self.bases[argument] for argument in sorted(self.bases)),
            "labels": value_digest(dict(self.labels)),
        }

    def context(self, certificates: Path | None) -> bytes:
        """The build context as a tar archive, the same bytes for the same source.

        Args:
            certificates: a bundle for downloads during the build.

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
    """The entrypoint and the front, as the build contexts of all images have them.

    Only Python files: whatever else is in the directory must not get into an image.
    """
    directory = project_file("docker/server")
    names = [name for name in tree_files(directory) if name.endswith(".py")]
    return {f"server/{name}": (directory / name).read_bytes() for name in names}
