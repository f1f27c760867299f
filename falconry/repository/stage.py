"""The repository stage: an engine and our models become `model_repository/`, ready to serve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from typing_extensions import override

from falconry.digests import tree_files, value_digest
from falconry.engine.manifest import read_manifest
from falconry.errors import RepositoryError
from falconry.pipeline import FileStage, Output, Report, Workspace
from falconry.settings import ServingSettings


class RepositoryStage(FileStage):
    """Assembles and verifies the repository.

    Args:
        sources: the committed models.
        engine: the engine stage's output.
        serving: decides whether the models are decoupled.
        workspace: where to work.
    """

    name = "repository"
    version = 1
    makes_directory = True

    def __init__(
        self, sources: Path, engine: Output, serving: ServingSettings, workspace: Workspace
    ) -> None:
        super().__init__(workspace)
        self._sources = sources
        self._engine = engine
        self._serving = serving

    @override
    def ingredients(self) -> Mapping[str, str]:
        digests = self._workspace.digests
        return {
            "engine": self._engine.digest,
            "models": value_digest(digests.files(self._sources, tree_files(self._sources))),
            "route": self._serving.route,
        }

    @override
    def file_name(self, key: str) -> str:
        return key

    @override
    def write(self, output: Path, report: Report) -> None:
        # Imported here: Triton's protobuf costs a quarter of a second, and doing nothing must not.
        from falconry.repository.assemble import assemble
        from falconry.repository.verify import verify_repository

        _refuse_gpu_engine(self._engine.path)
        report("assembling", None)
        decoupled = self._serving.route == "generate"
        assemble(self._sources, self._engine.path, output, decoupled=decoupled)
        report("verifying", None)
        verify_repository(output)

    @override
    def summary(self, output: Path) -> str:
        models = [path for path in output.iterdir() if path.is_dir()]
        return f"{len(models)} models, {len(tree_files(output))} files"


def _refuse_gpu_engine(engine: Path) -> None:
    if read_manifest(engine).gpu:
        raise RepositoryError(
            "is a TensorRT-LLM engine, and only repositories of CPU engines are assembled so far",
            where=engine,
            remedy="take the engine from there, or run with PROFILE=local",
        )
