"""The NVIDIA GPUs of this machine, as NVML gives them.

`python -m falconry.engine.tensorrt_llm.gpus` prints them as JSON.
"""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict, dataclass
from typing import Any

from falconry.errors import FalconryError, MachineError


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU; `sm` is ten times its compute capability, `memory_bytes` all the memory it has."""

    name: str
    sm: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class HostGpus:
    """The driver's version, such as "575.57.08", and at least one GPU."""

    driver: str
    gpus: tuple[Gpu, ...]


def probe_gpus(binding: Any = None) -> HostGpus | None:
    """Asks NVML; None where there is no NVIDIA driver library or no GPU.

    Args:
        binding: of NVML, `pynvml` unless a test brings its own.

    Raises:
        MachineError: the library is there, and refuses.
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
            f"the NVIDIA driver does not give its GPUs ({str(error).rstrip('.')})",
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
