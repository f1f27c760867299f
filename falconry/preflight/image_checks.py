"""Whether an image may be pulled, and whether it serves the engine, by what it says of itself."""

from __future__ import annotations

from collections.abc import Iterator

from falconry.engine.manifest import GpuEngine, Manifest
from falconry.engine.preflight import tensorrt_release
from falconry.findings import Finding, verdict
from falconry.oci_facts import ImageLimits
from falconry.preflight.subject import Image
from falconry.progress import human_size

# The labels of falconry/image/servers.py.
TENSORRT_LLM, TENSORRT = "io.falconry.tensorrt-llm", "io.falconry.tensorrt"


def image_findings(image: Image, engine: Manifest | None, limits: ImageLimits) -> Iterator[Finding]:
    """The findings of the image."""
    yield _size(image, limits)
    if engine is not None and engine.gpu is not None:
        yield from _versions(image, engine.gpu)


def _size(image: Image, limits: ImageLimits) -> Finding:
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
