"""What the tests of checks share."""

from __future__ import annotations

from typing import Any

from falconry import findings
from falconry.engine.tensorrt_llm.machine import BuildHost, Gpu, HostGpus
from falconry.engine.tensorrt_llm.memory import GIB
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec
from falconry.engine.tensorrt_llm.spec_checks import spec_checks
from falconry.findings import Finding

A10_HERE = Gpu("NVIDIA A10", 86, 23028 << 20)  # nvidia-smi: 23028MiB
CALIBRATION = {"dataset": "cnn_dailymail", "size": 512, "awq_block_size": 64}


def failures(checks: list[Finding]) -> dict[str, Finding]:
    return {check.check: check for check in findings.failures(checks)}


def only_failure(built: GpuEngineSpec) -> Finding:
    failed = list(failures(spec_checks(built)).values())
    assert len(failed) == 1, failed
    return failed[0]


def check_refusal(built: GpuEngineSpec, name: str, problem: str, remedy: str) -> None:
    failed = only_failure(built)

    assert failed.check == name
    assert problem in failed.text
    assert remedy in failed.remedy


def machine(*gpus: Gpu, driver: str = "575.57.08", **changes: Any) -> BuildHost:
    values: dict[str, Any] = {
        "gpus": HostGpus(driver, gpus) if gpus else None,
        "docker_gpus": True,
        "docker_problem": None,
        "free_disk_bytes": 1000 * GIB,
        "memory_bytes": 2000 * GIB,
    }
    return BuildHost(**{**values, **changes})
