"""The GPU probe, with a stand-in for NVML's binding: no NVIDIA driver is needed here."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from falconry.engine.tensorrt_llm import machine as gpus
from falconry.engine.tensorrt_llm.machine import (
    BuildHost,
    Gpu,
    HostGpus,
    machine_checks,
    probe_gpus,
)
from falconry.engine.toolchain import load_toolchains
from falconry.errors import MachineError
from falconry.findings import failures
from falconry.oci_facts import gpu_shape
from tests.falconry.engine.tensorrt_llm.specs import spec

# What nvidia-smi gives for an A10: 23028 MiB.
A10_BYTES = 23028 << 20

# What real GPUs said, through the real driver and NVIDIA's binding.
REAL = Path(__file__).parents[3] / "data" / "gpus"


class NvmlStandIn:
    """Answers like NVIDIA's binding; the names and errors are those of nvidia-ml-py."""

    NVMLError = pynvml.NVMLError
    NVML_ERROR_LIBRARY_NOT_FOUND = pynvml.NVML_ERROR_LIBRARY_NOT_FOUND
    NVML_ERROR_GPU_NOT_FOUND = pynvml.NVML_ERROR_GPU_NOT_FOUND

    def __init__(self, names: list[str], **errors: int) -> None:
        self._names = names
        self._errors = errors
        self.closed = 0

    def _fail_if_told(self, name: str) -> None:
        if name in self._errors:
            raise pynvml.NVMLError(self._errors[name])

    def nvmlInit(self) -> None:  # noqa: N802
        self._fail_if_told("init")

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.closed += 1

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "575.57.08"

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self._names)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802
        return self._names[handle]

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:  # noqa: N802
        return (8, 6)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
        self._fail_if_told("memory")
        return SimpleNamespace(total=A10_BYTES, free=1, used=1)


def test_each_gpu_is_given_with_name_architecture_and_memory() -> None:
    nvml = NvmlStandIn(["NVIDIA A10", "NVIDIA A10"])

    found = probe_gpus(nvml)

    assert found == HostGpus("575.57.08", (Gpu("NVIDIA A10", 86, A10_BYTES),) * 2)
    assert nvml.closed == 1


@pytest.mark.parametrize("name", ["H100", "H200"])
def test_a_real_gpu_is_that_of_its_shape_and_of_kept_toolchains(name: str) -> None:
    recorded = json.loads((REAL / f"{name.lower()}.json").read_text())["probe"]
    (given,) = recorded["gpus"]
    host = HostGpus(recorded["driver"], (Gpu(**given),) * 8)
    shape = gpu_shape(f"BM.GPU.{name}.8")

    assert (given["name"], given["sm"]) == (shape.gpu, shape.sm)
    assert 0 <= given["memory_bytes"] / 2**30 - shape.gpu_memory_gib < 0.1
    for row in load_toolchains().rows:
        built = spec(shape=shape, toolchain=row.model_dump())
        assert not failures(machine_checks(built, BuildHost(host, True, None, 2**50, 2**50)))


def test_the_stand_in_has_only_names_of_the_real_binding() -> None:
    names = [name for name in vars(NvmlStandIn) if name.lower().startswith("nvml")]

    assert all(hasattr(pynvml, name) for name in names)


@pytest.mark.parametrize(
    "nvml",
    [
        NvmlStandIn([], init=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND),
        NvmlStandIn([], init=pynvml.NVML_ERROR_GPU_NOT_FOUND),
        NvmlStandIn([]),
    ],
    ids=["no driver library", "no GPU", "a driver and no device"],
)
def test_a_machine_without_gpus_has_none(nvml: NvmlStandIn) -> None:
    assert probe_gpus(nvml) is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "Driver Not Loaded"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "Insufficient Permissions"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "version mismatch"),
    ],
)
def test_a_driver_that_refuses_is_told_with_its_reason(error: int, reason: str) -> None:
    with pytest.raises(MachineError, match=f"{reason}.*nvidia-smi"):
        probe_gpus(NvmlStandIn([], init=error))


def test_the_library_is_closed_when_a_gpu_refuses() -> None:
    nvml = NvmlStandIn(["NVIDIA A10"], memory=pynvml.NVML_ERROR_GPU_IS_LOST)

    with pytest.raises(MachineError, match="GPU is lost"):
        probe_gpus(nvml)
    assert nvml.closed == 1


@pytest.mark.parametrize(
    ("names", "printed"),
    [
        ([], None),
        (
            ["NVIDIA A10"],
            {
                "driver": "575.57.08",
                "gpus": [{"name": "NVIDIA A10", "sm": 86, "memory_bytes": A10_BYTES}],
            },
        ),
    ],
)
def test_the_probe_prints_json(
    names: list[str],
    printed: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", NvmlStandIn(names))

    assert gpus.main() == 0
    assert json.loads(capsys.readouterr().out) == printed


def test_the_probe_says_why_it_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refusing = NvmlStandIn([], init=pynvml.NVML_ERROR_NO_PERMISSION)
    monkeypatch.setitem(sys.modules, "pynvml", refusing)

    assert gpus.main() == 1
    assert "Insufficient Permissions" in capsys.readouterr().err
