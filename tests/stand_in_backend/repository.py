"""The real assembled repository of a TensorRT-LLM engine, with the stand-in in the backend's place.

Only `backend: "tensorrtllm"` is changed: so a real Triton checks every configuration, name, type
and edge that NVIDIA's image would be given.
"""

import io
import shutil
from pathlib import Path

from falconry.pipeline import Output, Workspace
from falconry.progress import Progress
from falconry.repository.config import read_config, set_parameters, write_config
from falconry.repository.stage import RepositoryStage
from falconry.settings import Settings, load_settings
from tests.stand_in_backend.engine import TINY

ROOT = Path(__file__).parents[2]


def gpu_settings(release: str, *overrides: str) -> Settings:
    """The profile of Oracle's cloud, for a release."""
    words = [f"engine.toolchain={release}", "deployment.shape=BM.GPU.A10.4", *overrides]
    return load_settings(ROOT, "oci", recipe="tiny", overrides=" ".join(words))


def gpu_repository(engine: Path, release: str, build: Path, *overrides: str) -> Path:
    """The repository that the stage makes of an engine directory."""
    workspace = Workspace.open(build, Progress(io.StringIO()))
    output = Output(engine, "sha256:engine", "stand-in")
    settings = gpu_settings(release, *overrides)
    stage = RepositoryStage(ROOT / "model_repository", output, settings, workspace)
    inputs = stage.inputs()
    return stage.make(stage.key(inputs), inputs, lambda step, fraction: None).path


def stand_in_for_backend(repository: Path, step_ms: int | None = None) -> Path:
    """Puts the stand-in in the backend's place, with steps of this length; the same directory."""
    model = repository / "tensorrt_llm"
    config = read_config(model / "config.pbtxt")
    assert config.backend == "tensorrtllm"
    config.backend = "python"
    if step_ms is not None:
        set_parameters(config, {"stand_in_step_ms": step_ms})
    write_config(model / "config.pbtxt", config)
    shutil.copyfile(Path(__file__).with_name("model.py"), model / "1/model.py")
    shutil.copyfile(TINY / "sentences.json", model / "1/sentences.json")
    return repository
