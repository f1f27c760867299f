"""The model artifact: the repository as a reproducible zip, `model_repository/` at its root.

OCI unzips it at /opt/ds/model/deployed_model, so that the server's command is
`tritonserver --model-repository=/opt/ds/model/deployed_model/model_repository`.
"""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path

from typing_extensions import override

from falconry.digests import tree_files
from falconry.errors import RepositoryError
from falconry.pipeline import FileStage, Output, Report, Workspace
from falconry.progress import human_size

ROOT = "model_repository"
# The oldest time that a zip can hold: entries must not differ because files were touched.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_MODE = stat.S_IFREG | 0o644
_CHUNK = 1 << 20


class ArtifactStage(FileStage):
    """Packs the repository stage's output."""

    name = "artifact"
    version = 1
    makes_directory = False

    def __init__(self, repository: Output, workspace: Workspace) -> None:
        super().__init__(workspace)
        self._repository = repository

    @override
    def ingredients(self) -> Mapping[str, str]:
        return {"repository": self._repository.digest}

    @override
    def file_name(self, key: str) -> str:
        return f"{key}.zip"

    @override
    def write(self, output: Path, report: Report) -> None:
        write_artifact(self._repository.path, output, report)

    @override
    def summary(self, output: Path) -> str:
        digest = self._workspace.digests.file(output)
        return f"{digest[:15]}…  {human_size(output.stat().st_size)}"


def write_artifact(repository: Path, output: Path, report: Report) -> None:
    """Zips a repository: names sorted, times and modes fixed, every entry stored.

    Stored and not deflated, because weights hardly shrink and because deflate gives other bytes
    with another zlib; so the same repository is the same artifact on every machine.

    Raises:
        RepositoryError: a symbolic link, whose target would not be in the artifact.
        OSError: a file cannot be read, or the disk is full.
    """
    names = tree_files(repository)
    sizes = {name: (repository / name).stat().st_size for name in names}
    total, written = sum(sizes.values()) or 1, 0
    with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            path = repository / name
            if path.is_symlink():
                raise RepositoryError("is a symbolic link", where=path, remedy="put a file there")
            entry = zipfile.ZipInfo(f"{ROOT}/{name}", _EPOCH)
            entry.external_attr = _MODE << 16
            entry.create_system = 3  # Unix, so that the mode is read
            entry.file_size = sizes[name]
            with path.open("rb") as source, archive.open(entry, "w") as target:
                while chunk := source.read(_CHUNK):
                    target.write(chunk)
                    written += len(chunk)
                    report("packing", written / total)
