"""NVIDIA's GPUs here, and whether containers get them, where engines are built for them."""

from __future__ import annotations

from falconry.docker_engine.gpus import can_see_gpus
from falconry.doctor.docker_engine import NO_ENGINE, asked_engine
from falconry.doctor.subject import Subject
from falconry.engine.tensorrt_llm.gpus import probe_gpus
from falconry.engine.toolchain import load_toolchains
from falconry.findings import Finding
from falconry.progress import human_size

RUNTIME = "GPU runtime"
GPU = "GPU"
_NOT_NEEDED = "not needed: the profile builds engines for CPUs"


def runtime(subject: Subject) -> Finding:
    """Whether the Docker engine can give a container a GPU, as far as it can be known."""
    if not subject.needs_gpu:
        return Finding(RUNTIME, "skipped", _NOT_NEEDED)
    with asked_engine() as client:
        if client is None:
            return Finding(RUNTIME, "failed", NO_ENGINE)
        if can_see_gpus(client):
            return Finding(RUNTIME, "ok", "the Docker engine takes --gpus")
    return Finding(
        RUNTIME,
        "failed",
        "the Docker engine cannot give containers a GPU",
        "install the NVIDIA Container Toolkit and restart Docker",
    )


def gpus(subject: Subject) -> Finding:
    """The GPUs and the driver as NVML sees them."""
    if not subject.needs_gpu:
        return Finding(GPU, "skipped", _NOT_NEEDED)
    host = probe_gpus()
    row = load_toolchains().row(subject.settings.engine.toolchain)
    if host is None:
        return Finding(
            GPU,
            "failed",
            "no NVIDIA GPU or driver is here",
            f"run on a machine with a GPU and its driver ({row.driver} or later for {row.release})",
        )
    found = ", ".join(
        f"{gpu.name} (SM {gpu.sm}, {human_size(gpu.memory_bytes)})" for gpu in host.gpus
    )
    return Finding(GPU, "ok", f"{found}; driver {host.driver}")
