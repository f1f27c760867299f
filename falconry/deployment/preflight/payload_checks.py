"""Checks that artifact, image, engine, shape and command fit each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from falconry.deployment.preflight.subject import Artifact, Container, DeploymentSubject, Image
from falconry.engine.manifest import GpuEngine, Manifest
from falconry.engine.tensorrt_llm.compatibility import (
    image_problems,
    shape_problems,
    tensorrt_release,
)
from falconry.findings import Finding, verdict
from falconry.oci_facts import ArtifactLimits, CpuShape, GpuShape, ImageLimits, Shape
from falconry.progress import human_size

# Triton's options for the directory (tritonserver --help); both may be given more than once.
_OPTIONS = ("--model-repository", "--model-store")
_CONFIG = "config.pbtxt"
_MOST_LISTED = 5
# The labels of falconry/image/server_images.py.
TENSORRT_LLM, TENSORRT = "io.falconry.tensorrt-llm", "io.falconry.tensorrt"


def artifact_findings(
    artifact: Artifact, container: Container, limits: ArtifactLimits
) -> Iterator[Finding]:
    """Checks the artifact's size, entries and models."""
    yield _size(artifact, limits)
    yield _names(artifact)
    paths = _repositories([*container.entrypoint, *container.command])
    if not paths:
        yield Finding("model repository", "skipped", "not checked: the command names none")
    for path in paths:
        yield _models(path, artifact, limits)


def _size(artifact: Artifact, limits: ArtifactLimits) -> Finding:
    size, most = artifact.size, limits.most_bytes
    way = "by way of a bucket" if size > limits.direct_bytes else "to the catalog itself"
    return verdict(
        "artifact size",
        size <= most,
        f"{human_size(size)} of {human_size(most)}, sent {way}",
        f"the artifact has {human_size(size)}, and the catalog takes {human_size(most)}",
        "quantise the weights",
    )


def _names(artifact: Artifact) -> Finding:
    """Checks that every entry is unpacked below the mounted directory."""
    wrong = [name for name in artifact.names if _leaves(name)]
    return verdict(
        "artifact names",
        not wrong,
        f"{len(artifact.names)} entries",
        f"{_some(wrong)} would be unpacked elsewhere",
        "name entries by relative paths with forward slashes",
    )


def _leaves(name: str) -> bool:
    return name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts


def _repositories(words: Sequence[str]) -> list[str]:
    """Finds the directories in a command: `--option=value` or two words."""
    found = []
    for word, following in zip(words, [*words[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        if option in _OPTIONS:
            found.append(value if equals else following)
    return found


def _models(repository: str, artifact: Artifact, limits: ArtifactLimits) -> Finding:
    """Checks that the artifact has models where the command expects them."""
    root, path = PurePosixPath(limits.mounted_at), PurePosixPath(repository)
    if not path.is_relative_to(root):
        return Finding(
            "model repository",
            "failed",
            f"the command's model repository is {repository}, and the artifact is unpacked at"
            f" {root}",
            f"name a directory below {root}",
        )
    inside = path.relative_to(root)
    entries = [
        PurePosixPath(name).relative_to(inside).parts
        for name in artifact.names
        if PurePosixPath(name).is_relative_to(inside)
    ]
    models = sorted({parts[0] for parts in entries if len(parts) > 1})
    if not models:
        tops = sorted({PurePosixPath(name).parts[0] for name in artifact.names if name})
        return Finding(
            "model repository",
            "failed",
            f"the artifact has no models in {inside}/, where the command looks for them"
            f" (it has {_some(tops) or 'nothing'})",
            f"zip the repository as {inside}/",
        )
    lacking = [problem for model in models for problem in _lacks(model, entries)]
    if lacking:
        return Finding(
            "model repository", "failed", _some(lacking), "assemble the repository again"
        )
    return Finding("model repository", "ok", f"{len(models)} models in {repository}")


def _lacks(model: str, entries: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Finds what Triton misses in a model (server, docs/user_guide/model_repository.md)."""
    own = [parts[1:] for parts in entries if parts[0] == model]
    if (_CONFIG,) not in own:
        yield f"the model {model} has no {_CONFIG}"
    if not any(len(parts) > 1 and parts[0].isdecimal() for parts in own):
        yield f"the model {model} has no version directory with a file in it"


def _some(words: Sequence[str]) -> str:
    more = len(words) - _MOST_LISTED
    return ", ".join(words[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def image_findings(image: Image, engine: Manifest | None, limits: ImageLimits) -> Iterator[Finding]:
    """Checks the image's size and the versions in it."""
    yield _image_size(image, limits)
    if engine is not None and engine.gpu is not None:
        yield from _versions(image, engine.gpu)


def _image_size(image: Image, limits: ImageLimits) -> Finding:
    size, most = image.compressed_bytes, limits.compressed_bytes
    if size is None:
        return Finding(
            "image size", "skipped", f"not known; the cloud pulls {human_size(most)} at most"
        )
    fact = f"{human_size(size)} of {human_size(most)}, compressed"
    over = f"the image has {human_size(size)}, and the cloud pulls {human_size(most)} at most"
    remedy = "build a smaller one: make image COMPOSE=..., or an image of fewer backends"
    if size <= most:
        return Finding("image size", "ok", fact)
    return Finding(
        "image size", "failed" if size > limits.refused_bytes else "warning", over, remedy
    )


def _versions(image: Image, engine: GpuEngine) -> Iterator[Finding]:
    if image.labels is None:
        yield Finding("image versions", "skipped", "the image's labels were not read")
        return
    for label, name, built in (
        (TENSORRT_LLM, "TensorRT-LLM", engine.tensorrt_llm),
        (TENSORRT, "TensorRT", engine.tensorrt),
    ):
        there = image.labels.get(label)
        if there is None:
            yield Finding(
                "image versions",
                "skipped",
                f"the image does not say its {name} (label {label})",
            )
            continue
        same = there == built
        if label == TENSORRT:
            same = tensorrt_release(there) == tensorrt_release(built)
        yield verdict(
            "image versions",
            same,
            f"{name} {there}",
            f"the engine was built with {name} {built} and the image has {there}",
            f"build the engine or the image with engine.toolchain {engine.release}",
        )


def engine_findings(subject: DeploymentSubject) -> Iterator[Finding]:
    """Checks that the engine fits its image and shape."""
    shape = subject.shape
    if subject.engine is None:
        yield Finding("engine", "skipped", "its manifest was not read")
        return
    engine = subject.engine.gpu
    if engine is None:
        yield _cpu_engine(subject, shape)
        return
    if isinstance(shape, GpuShape):
        yield from _on_gpus(subject, engine, shape)
    elif isinstance(shape, CpuShape):
        yield Finding(
            "engine and shape",
            "failed",
            f"the engine is one for GPUs ({engine.gpu}), and {shape.name} has none",
            "choose a shape by make shapes",
        )
    if subject.toolchain is not None:
        for problem in image_problems(engine, subject.toolchain):
            yield Finding(
                "engine and image",
                "failed",
                problem,
                f"build the engine or the image with engine.toolchain {engine.release}",
            )


def _cpu_engine(subject: DeploymentSubject, shape: Shape | None) -> Finding:
    name = subject.compute.shape
    return verdict(
        "engine and shape",
        not isinstance(shape, GpuShape),
        f"a CPU engine on {name}",
        f"the engine is one for CPUs, and the GPUs of {name} would be paid for in vain",
        'choose a CPU shape, or build with engine.builder = "tensorrt_llm"',
    )


def _on_gpus(subject: DeploymentSubject, engine: GpuEngine, shape: GpuShape) -> Iterator[Finding]:
    problems = shape_problems(engine, shape)
    ranks = engine.tensor_parallel * engine.pipeline_parallel
    fact = f"SM {engine.sm}, {ranks} of the {shape.gpus} GPUs of {shape.name}"
    if not problems:
        yield Finding("engine and shape", "ok", fact)
    for problem in problems:
        yield Finding("engine and shape", "failed", problem, "choose a shape by make shapes")
