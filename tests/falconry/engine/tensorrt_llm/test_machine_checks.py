"""What a machine is refused for, and that each refusal says what to change."""

from __future__ import annotations

import pytest

from falconry.engine.tensorrt_llm.machine import BuildHost, Gpu, machine_checks
from falconry.engine.tensorrt_llm.memory import GIB, estimate
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec
from falconry.findings import Finding
from tests.falconry.engine.tensorrt_llm.checking import A10_HERE, CALIBRATION, failures, machine
from tests.falconry.engine.tensorrt_llm.specs import A10, spec

GEFORCE = Gpu("NVIDIA GeForce RTX 3090", 86, 24 * GIB)


def test_a_machine_with_the_shapes_gpu_can_build() -> None:
    assert not failures(machine_checks(spec(), machine(A10_HERE)))


@pytest.mark.parametrize("docker_gpus", [False, None])
def test_without_a_gpu_one_check_says_so_and_nothing_else(docker_gpus: bool | None) -> None:
    here = machine(docker_gpus=docker_gpus, free_disk_bytes=0, memory_bytes=0)

    assert machine_checks(spec(), here) == [
        Finding(
            "GPU",
            "failed",
            "no NVIDIA GPU is visible to Docker",
            "run on a GPU runner (docs/ci) or build the CPU engine:"
            " make engine RECIPE=cpu PROFILE=local",
        )
    ]


def test_what_keeps_docker_from_answering_is_told() -> None:
    here = machine(docker_gpus=None, docker_problem="no Docker engine answers")

    (check,) = machine_checks(spec(), here)
    assert check.text == "no NVIDIA GPU is visible to Docker (no Docker engine answers)"


def test_a_gpu_that_docker_does_not_pass_on_needs_nvidias_toolkit() -> None:
    (check,) = machine_checks(spec(), machine(A10_HERE, docker_gpus=False))

    assert "NVIDIA Container Toolkit" in check.remedy
    assert "NVIDIA A10" in check.remedy


@pytest.mark.parametrize(
    ("driver", "gpu", "fits"),
    [
        ("575.57.08", A10_HERE, True),
        ("580.95.05", A10_HERE, True),
        ("560.35.03", A10_HERE, False),
        # NVIDIA's release notes: R470 from 470.57, R525 from 525.85, R535 from 535.86, R545 from
        # 545.23, on data-centre GPUs.
        ("535.86", A10_HERE, True),
        ("535.183.01", A10_HERE, True),
        ("535.54.03", A10_HERE, False),
        ("525.85.12", A10_HERE, True),
        ("550.54.14", A10_HERE, False),
        ("535.183.01", GEFORCE, False),
        ("575.57.08", GEFORCE, True),
    ],
)
def test_a_driver_is_compared_with_its_branch(driver: str, gpu: Gpu, fits: bool) -> None:
    failed = failures(machine_checks(spec(), machine(gpu, driver=driver)))

    assert ("driver" not in failed) == fits
    if not fits:
        assert "install driver 575 or later" in failed["driver"].remedy


def test_versions_are_compared_as_numbers() -> None:
    failed = failures(
        machine_checks(spec(toolchain={"driver": "575.9"}), machine(A10_HERE, driver="575.57"))
    )

    assert "driver" not in failed


def test_an_engine_is_not_built_on_another_architecture_than_it_runs_on() -> None:
    # NVIDIA/TensorRT-LLM#222: built on an A100, "expecting compute 8.6 got compute 8.0".
    a100 = Gpu("NVIDIA A100-SXM4-80GB", 80, 80 * GIB)
    (failed,) = failures(machine_checks(spec(), machine(a100))).values()

    assert "A100-SXM4-80GB is SM 80, and VM.GPU.A10.1 has SM 86" in failed.text
    assert "build on a machine with NVIDIA A10" in failed.remedy
    assert "set deployment.shape to BM.GPU4.8" in failed.remedy


def test_one_gpu_of_another_architecture_is_enough_to_refuse() -> None:
    other = Gpu("NVIDIA L40S", 89, 48 * GIB)
    (failed,) = failures(machine_checks(spec(), machine(A10_HERE, other))).values()

    assert "NVIDIA L40S is SM 89" in failed.text


@pytest.mark.parametrize(
    ("built", "here", "name", "remedy"),
    [
        (
            spec("falcon-7b", parallelism={"pipeline": 2}),
            machine(A10_HERE),
            "GPUs here",
            "build on a machine with 2 GPUs",
        ),
        (
            spec("falcon-7b"),
            machine(Gpu("NVIDIA A10", 86, 12 * GIB)),
            "GPU memory here",
            "build on a machine with larger or more GPUs",
        ),
        (
            # The calibrated model is the unquantised one, 41.8e9 parameters of two bytes.
            spec("falcon-40b", shape=A10, quantization="int4_awq", calibration=CALIBRATION),
            machine(A10_HERE, A10_HERE),
            "GPU memory here",
            "build on a machine with larger or more GPUs",
        ),
        (
            # convert_checkpoint.py puts the unquantised model on the GPUs first.
            spec("falcon-40b", shape=A10, quantization="int8_weight_only"),
            machine(*[Gpu("NVIDIA A10", 86, 30 * GIB)] * 2),
            "GPU memory here",
            "set load_by_shard = true, or build on a machine with larger or more GPUs",
        ),
        (
            spec("falcon-7b"),
            machine(A10_HERE, memory_bytes=16 * GIB),
            "host memory",
            "more memory",
        ),
        (
            spec("falcon-7b"),
            machine(A10_HERE, free_disk_bytes=20 * GIB),
            "free disk",
            "free some disk space",
        ),
    ],
    ids=["GPUs", "GPU memory", "calibration", "weight-only", "host memory", "disk"],
)
def test_a_machine_that_is_too_small_is_refused(
    built: GpuEngineSpec, here: BuildHost, name: str, remedy: str
) -> None:
    (failed,) = failures(machine_checks(built, here)).values()

    assert failed.check == name
    assert remedy in failed.remedy


def test_weights_that_are_quantised_shard_by_shard_need_no_room_for_the_whole_model() -> None:
    built = spec("falcon-40b", shape=A10, quantization="int8_weight_only", load_by_shard=True)

    assert not failures(machine_checks(built, machine(*[Gpu("NVIDIA A10", 86, 30 * GIB)] * 2)))


def test_gpus_that_only_docker_sees_are_not_refused() -> None:
    checks = machine_checks(spec(), machine())

    assert not failures(checks)
    assert "not checked" in checks[0].text


def test_exactly_what_a_build_takes_suffices() -> None:
    memory = estimate(spec())
    here = machine(
        A10_HERE,
        free_disk_bytes=memory.build_disk_bytes,
        memory_bytes=memory.build_host_bytes,
    )

    assert not failures(machine_checks(spec(), here))
