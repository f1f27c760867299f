"""The repository stage: an engine and our models become `model_repository/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from falconry.data_files import project_file
from falconry.digests import tree_files, value_digest
from falconry.engine.manifest import EngineLimits, GpuEngine, Manifest, read_manifest
from falconry.pipeline import FileStage, Output, Report, Workspace
from falconry.settings import Settings

if TYPE_CHECKING:
    from falconry.engine.toolchain import Toolchain
    from falconry.repository.assemble import GpuServing

# What only GPU engines need is imported where it is used: a CPU engine need not pay for it.


class RepositoryStage(FileStage):
    """Assembles and verifies the repository."""

    name = "repository"
    version = 3
    makes_directory = True

    def __init__(
        self, sources: Path, engine: Output, settings: Settings, workspace: Workspace
    ) -> None:
        super().__init__(workspace)
        self._sources = sources
        self._engine = engine
        self._settings = settings

    @override
    def inputs(self) -> Mapping[str, str]:
        digests, serving = self._workspace.digests, self._settings.serving
        common = {
            "engine": self._engine.digest,
            "models": value_digest(digests.files(self._sources, tree_files(self._sources))),
        }
        if not self._for_gpus:
            return common
        from falconry.repository.backend import BACKEND_TABLE

        return {
            **common,
            "toolchain": value_digest(self._toolchain.model_dump(mode="json")),
            "shape": self._settings.deployment.shape,
            "backend": digests.file(project_file(BACKEND_TABLE)),
            "serving": value_digest(serving.tensorrt_llm.model_dump(mode="json")),
        }

    @override
    def details(self, key: str) -> Sequence[str]:
        if not self._for_gpus:
            return ()
        from falconry.repository.backend import backend_tensors

        row, serving = self._toolchain, self._settings.serving.tensorrt_llm
        tensors = backend_tensors(row)
        names = ", ".join(tensors.renamed.get(name, name) for name in ("seed", "min_tokens"))
        return (
            f"backend  tensorrtllm of TensorRT-LLM {row.tensorrt_llm} on "
            f"{self._settings.deployment.shape}, with {names}",
            f"cache    {serving.kv_cache_free_gpu_mem_fraction:g} of the free GPU memory, "
            f"{serving.scheduler_policy}",
        )

    @override
    def file_name(self, key: str) -> str:
        return key

    @override
    def write(self, output: Path, report: Report) -> None:
        # Imported here: Triton's protobuf costs a quarter of a second, and doing nothing must not.
        from falconry.repository.assemble import assemble
        from falconry.repository.config import verify_repository

        report("checking", None)
        manifest = read_manifest(self._engine.path)
        gpu = self._gpu_serving(manifest, manifest.gpu) if manifest.gpu else None
        report("assembling", None)
        assemble(self._sources, self._engine.path, output, self._settings.serving, gpu)
        report("verifying", None)
        verify_repository(output)

    @override
    def summary(self, output: Path) -> str:
        models = [path for path in output.iterdir() if path.is_dir()]
        return f"{len(models)} models, {len(tree_files(output))} files"

    @property
    def _for_gpus(self) -> bool:
        return self._settings.engine.builder == "tensorrt_llm"

    @property
    def _toolchain(self) -> Toolchain:
        from falconry.engine.toolchain import load_toolchains

        return load_toolchains().row(self._settings.engine.toolchain)

    def _gpu_serving(self, manifest: Manifest, gpu: GpuEngine) -> GpuServing:
        """The engine's backend, if image and shape can run the engine."""
        from falconry.cloud.shapes import gpu_shape_of
        from falconry.engine.tensorrt_llm.compatibility import check_documents, check_engine
        from falconry.engine.tensorrt_llm.engine_config import EngineConfig
        from falconry.repository.assemble import GpuServing
        from falconry.repository.backend import backend_tensors

        tensors = backend_tensors(self._toolchain)
        check_engine(manifest, self._toolchain, gpu_shape_of(self._settings))
        built = EngineConfig.read(self._engine.path)
        check_documents(built, EngineLimits.read(self._engine.path), gpu)
        return GpuServing(built, tensors)
