"""Engines that would not run where they are to be deployed are found before they are sent."""

from __future__ import annotations

from typing import Any

import pytest

from falconry.engine.manifest import EngineFile, GpuEngine, Manifest
from falconry.engine.tensorrt_llm.compatibility import check_engine
from falconry.errors import EngineError
from tests.falconry.engine.tensorrt_llm.specs import A10, A100, TOOLCHAIN


def manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "release": "25.10",
        "image": TOOLCHAIN.image,
        "tensorrt_llm": "1.0.0",
        "tensorrt": "10.11.0.33",
        "cuda": "12.9.1",
        "driver": "575.57.08",
        "gpu": "NVIDIA A10",
        "sm": 86,
        "tensor_parallel": 1,
        "pipeline_parallel": 1,
        "memory_bytes": 17 << 30,
    }
    return Manifest(
        key="0123456789ab" + 52 * "0",
        builder="tensorrt_llm",
        toolchain={},
        ingredients={},
        description="test",
        files={"config.json": EngineFile(size=1, sha256="0")},
        gpu=GpuEngine(**{**values, **changes}),
    )


def refusal(engine: Manifest, toolchain: dict[str, Any] | None = None, shape: Any = A10) -> str:
    with pytest.raises(EngineError) as caught:
        check_engine(engine, TOOLCHAIN.model_copy(update=toolchain or {}), shape)
    return str(caught.value)


def test_an_engine_runs_where_it_was_built_for() -> None:
    check_engine(manifest(), TOOLCHAIN, A10)


def test_the_fourth_part_of_tensorrts_version_does_not_matter() -> None:
    check_engine(manifest(tensorrt="10.11.0"), TOOLCHAIN, A10)


@pytest.mark.parametrize("version", ["10.11.1.1", "10.9.0.34", "9.1.0"])
def test_another_tensorrt_is_refused(version: str) -> None:
    # tensorrtllm_backend#299 and #531: "Version tag does not match", told only by the server.
    told = refusal(manifest(tensorrt=version))

    assert f"it was built with TensorRT {version} and the image has 10.11.0.33" in told
    assert "build it with engine.toolchain 25.10 for VM.GPU.A10.1" in told


def test_another_tensorrt_llm_is_refused() -> None:
    told = refusal(manifest(tensorrt_llm="0.19.0", release="25.05"))

    assert "built with TensorRT-LLM 0.19.0 and the image has 1.0.0" in told
    assert "deploy it with 25.05" in told


def test_another_architecture_is_refused() -> None:
    # NVIDIA/TensorRT-LLM#222: an engine from an A100 does not load on an A10.
    told = refusal(manifest(), shape=A100)

    assert "it was built on SM 86 (NVIDIA A10) and BM.GPU.A100-v2.8 has SM 80" in told


def test_more_ranks_than_gpus_are_refused() -> None:
    told = refusal(manifest(pipeline_parallel=2))

    assert "it takes 2 GPUs (tensor 1 times pipeline 2) and VM.GPU.A10.1 has 1" in told


@pytest.mark.parametrize(("mib", "fits"), [(22500, True), (22700, False)])
def test_an_engine_has_to_fit_what_an_a10_really_gives(mib: int, fits: bool) -> None:
    # A log in oci-data-science-ai-samples: CUDA gives 22.07 GiB, 22,600 MiB.
    engine = manifest(memory_bytes=mib << 20)
    if fits:
        check_engine(engine, TOOLCHAIN, A10)
    else:
        assert "it needs 22.17 GiB a GPU and NVIDIA A10 gives 22.07 GiB" in refusal(engine)


def test_everything_that_is_wrong_is_told_together() -> None:
    told = refusal(
        manifest(tensorrt="9.1.0", tensor_parallel=16, memory_bytes=100 << 30), shape=A100
    )

    assert "\n" not in told
    for problem in ("TensorRT 9.1.0", "SM 86", "it takes 16 GPUs", "it needs 100.00 GiB"):
        assert problem in told


def test_an_engine_for_cpus_has_its_own_answer() -> None:
    engine = manifest().model_copy(update={"gpu": None, "builder": "openvino"})
    told = refusal(engine)

    assert told == (
        "the engine 0123456789ab is one for CPUs (built by openvino), and VM.GPU.A10.1 has"
        ' NVIDIA A10 GPUs; build one with engine.builder = "tensorrt_llm", or choose a CPU shape'
    )
