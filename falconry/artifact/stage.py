"""The artifact stage: the list of files that decides the zip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from falconry.artifact.contents import Contents, describe
from falconry.digests import DigestCache
from falconry.pipeline import FileStage, Output, Report, Workspace
from falconry.progress import human_size

if TYPE_CHECKING:
    from falconry.artifact.view import ArtifactView


@dataclass(frozen=True, slots=True)
class ArtifactOutput(Output):
    """An artifact, of which `path` is the list of its files."""

    repository: Path
    digests: DigestCache = field(repr=False, compare=False)

    def view(self) -> ArtifactView:
        """The artifact's bytes.

        Raises:
            RepositoryError: the repository holds something else by now.
        """
        from falconry.artifact.view import ArtifactView

        return ArtifactView.open(self.repository, self.contents(), self.digests)

    def contents(self) -> Contents:
        """The list of its files."""
        return Contents.read(self.path)


def artifact_of(made: Mapping[str, Output]) -> ArtifactOutput:
    """The artifact among the outputs that a stage is made from."""
    return as_artifact(made["artifact"])


def as_artifact(output: Output) -> ArtifactOutput:
    """The artifact stage's output as what it is."""
    if not isinstance(output, ArtifactOutput):
        raise TypeError("the artifact stage gave another output")
    return output


class ArtifactStage(FileStage):
    """Describes the artifact of the repository stage's output; no zip is written."""

    name = "artifact"
    version = 2
    makes_directory = False

    def __init__(self, repository: Output, workspace: Workspace) -> None:
        super().__init__(workspace)
        self._repository = repository

    @override
    def inputs(self) -> Mapping[str, str]:
        return {"repository": self._repository.digest}

    @override
    def file_name(self, key: str) -> str:
        return f"{key}.json"

    @override
    def write(self, output: Path, report: Report) -> None:
        contents = describe(self._repository.path, self._workspace.digests, report)
        output.write_bytes(contents.encoded())

    @override
    def summary(self, output: Path) -> str:
        size = Contents.read(output).layout().size
        return f"{self._workspace.digests.file(output)[:15]}…  {human_size(size)}"

    @override
    def _output(self, path: Path, files: Mapping[str, str]) -> ArtifactOutput:
        found = super()._output(path, files)
        return ArtifactOutput(
            path=found.path,
            digest=found.digest,
            summary=found.summary,
            repository=self._repository.path,
            digests=self._workspace.digests,
        )
