"""What this machine offers a build, and whether that is enough.

`python -m falconry.engine.tensorrt_llm.machine` prints the GPUs as JSON.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from falconry.checkpoint.architecture import FalconArchitecture
from falconry.docker_engine.client import can_see_gpus, connect
from falconry.engine.tensorrt_llm.checks import gpu_words, shape_remedy, toolchain_remedy, ways
from falconry.engine.tensorrt_llm.memory import GIB, estimate
from falconry.engine.tensorrt_llm.quantization_checks import calibrated
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec
from falconry.engine.tensorrt_llm.spec_checks import may_load_by_shard
from falconry.engine.toolchain import Toolchain
from falconry.errors import FalconryError, MachineError
from falconry.findings import Finding, verdict

NO_GPU = "no NVIDIA GPU is visible to Docker"
_NO_GPU_REMEDY = (
    "run on a GPU runner (docs/ci) or build the CPU engine: make engine RECIPE=cpu PROFILE=local"
)

# In the names of GPUs that are not made for data centres; CUDA's forward compatibility is for those
# of data centres only (NVIDIA, CUDA Compatibility). The words are remembered.
_NOT_DATA_CENTER = ("GeForce", "RTX", "Quadro", "TITAN")


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU; `sm` is ten times its compute capability."""

    name: str
    sm: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class HostGpus:
    """The driver's version, such as "575.57.08", and at least one GPU."""

    driver: str
    gpus: tuple[Gpu, ...]


def probe_gpus(binding: Any = None) -> HostGpus | None:
    """The GPUs by NVML; None without a driver library or a GPU.

    Args:
        binding: of NVML, `pynvml` unless a test brings its own.

    Raises:
        MachineError: the driver library is installed, and refuses.
    """
    nvml = binding or importlib.import_module("pynvml")
    try:
        nvml.nvmlInit()
        try:
            return _found(nvml)
        finally:
            nvml.nvmlShutdown()
    except nvml.NVMLError as error:
        if error.value in (nvml.NVML_ERROR_LIBRARY_NOT_FOUND, nvml.NVML_ERROR_GPU_NOT_FOUND):
            return None
        raise MachineError(
            f"the NVIDIA driver cannot list its GPUs ({str(error).rstrip('.')})",
            remedy="see that nvidia-smi lists them on this machine",
        ) from error


def _found(nvml: Any) -> HostGpus | None:
    handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    gpus = tuple(_gpu(nvml, handle) for handle in handles)
    return HostGpus(nvml.nvmlSystemGetDriverVersion(), gpus) if gpus else None


def _gpu(nvml: Any, handle: Any) -> Gpu:
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    return Gpu(
        name=nvml.nvmlDeviceGetName(handle),
        sm=10 * major + minor,
        memory_bytes=nvml.nvmlDeviceGetMemoryInfo(handle).total,
    )


@dataclass
class BuildHost:
    """What a build would find on this machine.

    Attributes:
        gpus: None for no GPU.
        docker_gpus: whether containers can have GPUs; None when that is not known.
        docker_problem: why not, or why it is not known.
        free_disk_bytes: on the file system that the build writes to.
    """

    gpus: HostGpus | None
    docker_gpus: bool | None
    docker_problem: str | None
    free_disk_bytes: int
    memory_bytes: int


def this_machine(build: Path) -> BuildHost:
    """Reads from driver, Docker engine and file system; starts nothing."""
    docker_gpus: bool | None
    try:
        with contextlib.closing(connect()) as client:
            docker_gpus, problem = can_see_gpus(client), None
    except MachineError as error:
        docker_gpus, problem = None, error.problem
    build.mkdir(parents=True, exist_ok=True)
    return BuildHost(
        gpus=probe_gpus(),
        docker_gpus=docker_gpus,
        docker_problem=problem,
        free_disk_bytes=shutil.disk_usage(build).free,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )


def machine_checks(spec: GpuEngineSpec, machine: BuildHost) -> list[Finding]:
    """Whether this machine can build; without a GPU nothing else is checked."""
    if machine.docker_gpus is not True:
        return [_no_gpu(machine)]
    on_gpus = _gpu_checks(spec, machine.gpus) if machine.gpus else [_unread_gpus()]
    return [*on_gpus, _host_memory(spec, machine), _disk(spec, machine)]


def _no_gpu(machine: BuildHost) -> Finding:
    reason = f" ({machine.docker_problem})" if machine.docker_problem else ""
    remedy = _NO_GPU_REMEDY
    if machine.gpus and machine.docker_gpus is False:
        name = machine.gpus.gpus[0].name
        remedy = f"install the NVIDIA Container Toolkit, so that containers can have the {name}"
    return Finding("GPU", "failed", f"{NO_GPU}{reason}", remedy)


def _gpu_checks(spec: GpuEngineSpec, host: HostGpus) -> list[Finding]:
    return [
        _driver(spec, host),
        _same_architecture(spec, host.gpus),
        _enough_gpus(spec, host.gpus),
        _build_memory(spec, host.gpus),
    ]


def _unread_gpus() -> Finding:
    text = "Docker has them, NVML does not show them here: driver and memory are not checked"
    return Finding("GPU", "ok", text)


def _driver(spec: GpuEngineSpec, host: HostGpus) -> Finding:
    row = spec.toolchain
    branches = ", ".join(row.data_center_drivers)
    also = f" (on a data-centre GPU also {branches}, or later of that branch)" if branches else ""
    return verdict(
        "driver",
        _driver_serves(row, host),
        f"{host.driver} for CUDA {row.cuda}",
        f"driver {host.driver} is too old for CUDA {row.cuda} of {row.release}",
        ways(
            f"install driver {row.driver} or later{also}",
            toolchain_remedy(lambda other: _driver_serves(other, host)),
        ),
    )


def _driver_serves(row: Toolchain, host: HostGpus) -> bool:
    """Whether the driver is CUDA's or later, or has forward compatibility."""
    installed = _version(host.driver)
    if installed >= _version(row.driver):
        return True
    branches = [_version(branch) for branch in row.data_center_drivers]
    return all(_for_data_centers(gpu) for gpu in host.gpus) and any(
        installed[0] == branch[0] and installed >= branch for branch in branches
    )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def _for_data_centers(gpu: Gpu) -> bool:
    return not any(word in gpu.name for word in _NOT_DATA_CENTER)


def _same_architecture(spec: GpuEngineSpec, gpus: Sequence[Gpu]) -> Finding:
    # Source: NVIDIA/TensorRT-LLM#222, an engine built on an A100 that an A10 does not load.
    shape = spec.shape
    other = next((gpu for gpu in gpus if gpu.sm != shape.sm), gpus[0])
    return verdict(
        "this GPU",
        other.sm == shape.sm,
        f"{other.name}, SM {other.sm} as {shape.name}",
        f"this machine's {other.name} is SM {other.sm}, and {shape.name} has SM {shape.sm}"
        f" ({shape.gpu}): an engine runs only on the architecture it was built on",
        ways(
            f"build on a machine with {shape.gpu}",
            shape_remedy(lambda candidate: candidate.sm == other.sm),
        ),
    )


def _enough_gpus(spec: GpuEngineSpec, gpus: Sequence[Gpu]) -> Finding:
    ranks = spec.recipe.parallelism.world_size
    return verdict(
        "GPUs here",
        len(gpus) >= ranks,
        f"{gpu_words(ranks)} of {len(gpus)}",
        f"the build takes {gpu_words(ranks)}, and this machine has {len(gpus)}",
        f"build on a machine with {gpu_words(ranks)}, or lower parallelism.tensor or"
        " parallelism.pipeline",
    )


def _build_memory(spec: GpuEngineSpec, gpus: Sequence[Gpu]) -> Finding:
    """Weights and a largest step, which TensorRT times; or the unquantised model."""
    needed, room = estimate(spec).without_cache, min(gpu.memory_bytes for gpu in gpus)
    if calibrated(spec) or _quantised_on_gpus(spec):
        original = spec.num_parameters * (4 if spec.recipe.dtype == "float32" else 2)
        needed = max(needed, original // len(gpus))
    return verdict(
        "GPU memory here",
        needed <= room,
        f"{needed / GIB:.2f} of {room / GIB:.2f} GiB a GPU",
        f"the build takes about {needed / GIB:.2f} GiB a GPU, and {gpus[0].name} has"
        f" {room / GIB:.2f} GiB",
        ways(
            "set load_by_shard = true"
            if _quantised_on_gpus(spec) and may_load_by_shard(spec)
            else None,
            f"build on a machine with larger or more GPUs, such as {spec.shape.name}",
        ),
    )


def _quantised_on_gpus(spec: GpuEngineSpec) -> bool:
    """Whether the converter loads the model onto GPUs before quantising.

    Source: NVIDIA/TensorRT-LLM, examples/models/contrib/falcon/convert_checkpoint.py at
    323e84602617: from_pretrained(device_map="auto"). Llama's reads tensor by tensor
    (tensorrt_llm/models/llama/model.py, 0.16).
    """
    falcon = isinstance(spec.architecture, FalconArchitecture)
    weight_only = spec.recipe.quantization.endswith("weight_only")
    return falcon and weight_only and not spec.recipe.load_by_shard


def _host_memory(spec: GpuEngineSpec, machine: BuildHost) -> Finding:
    needed = estimate(spec).build_host_bytes
    return verdict(
        "host memory",
        needed <= machine.memory_bytes,
        f"{needed / GIB:.1f} of {machine.memory_bytes / GIB:.1f} GiB",
        f"the build takes about {needed / GIB:.1f} GiB of host memory, and this machine has"
        f" {machine.memory_bytes / GIB:.1f} GiB",
        "build on a machine with more memory",
    )


def _disk(spec: GpuEngineSpec, machine: BuildHost) -> Finding:
    memory = estimate(spec)
    needed = memory.build_disk_bytes
    image = f"the image takes up to {memory.image_disk_bytes / GIB:.0f} GiB where Docker keeps it"
    return verdict(
        "free disk",
        needed <= machine.free_disk_bytes,
        f"{needed / GIB:.1f} of {machine.free_disk_bytes / GIB:.1f} GiB; {image}",
        f"the build writes about {needed / GIB:.1f} GiB, and {machine.free_disk_bytes / GIB:.1f}"
        " GiB are free",
        "free some disk space, or keep engine.store and the build directory on a larger disk",
    )


def main() -> int:
    """Prints the GPUs as JSON, `null` for none; 1 when NVML refuses."""
    try:
        found = probe_gpus()
    except FalconryError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(asdict(found) if found else None, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
