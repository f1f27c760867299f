"""Shapes: what OCI's GPU shapes hold, and what is said of another shape."""

from __future__ import annotations

import pytest

from falconry.errors import SettingsError
from falconry.oci_facts import (
    CpuShape,
    GpuShape,
    UnusableShape,
    find_shape,
    gpu_shape,
    load_cpu_shapes,
    load_shapes,
    shape_of_family,
)
from local_oci.services.deployments.rules import all_shapes

# oracle/accelerated-data-science, ads/aqua/resources/gpu_shapes_index.json at 26fd79b2d159: the
# GPU's type, how many there are, and their memory together in GB.
INDEX = {
    "VM.GPU2.1": ("P100", 1, 16),
    "BM.GPU2.2": ("P100", 2, 32),
    "VM.GPU3.1": ("V100", 1, 16),
    "VM.GPU3.2": ("V100", 2, 32),
    "VM.GPU3.4": ("V100", 4, 64),
    "BM.GPU3.8": ("V100", 8, 128),
    "BM.GPU4.8": ("A100", 8, 320),
    "BM.GPU.B4.8": ("A100", 8, 320),
    "BM.GPU.A100-v2.8": ("A100", 8, 640),
    "VM.GPU.A10.1": ("A10", 1, 24),
    "VM.GPU.A10.2": ("A10", 2, 48),
    "BM.GPU.A10.4": ("A10", 4, 96),
    "BM.GPU.L40S.4": ("L40S", 4, 192),
    "BM.GPU.L40S-NC.4": ("L40S", 4, 192),
    "BM.GPU.H100.8": ("H100", 8, 640),
    "BM.GPU.H200.8": ("H200", 8, 1128),
    "BM.GPU.B200.8": ("B200", 8, 1440),
}

# Of tests/data/gpus, rounded down.
REAL_GIB = {"H100": 79.6, "H200": 140.4}

# Compute capabilities, developer.nvidia.com/cuda-gpus, times ten.
ARCHITECTURES = {
    "P100": 60,
    "V100": 70,
    "A100": 80,
    "A10": 86,
    "L40S": 89,
    "H100": 90,
    "H200": 90,
    "B200": 100,
}


def test_the_shapes_are_those_of_oracles_index_that_images_run_on() -> None:
    assert {shape.name for shape in load_shapes()} == set(INDEX)


def test_every_shape_of_the_local_cloud_is_known_by_the_same_name_and_size() -> None:
    offered = all_shapes()
    for name, shape in offered.items():
        known = find_shape(name)
        assert known is not None and known.name == name
        if isinstance(known, GpuShape):
            assert known.gpus == shape.gpus
        elif isinstance(known, CpuShape):
            size = (known.ocpus, known.memory_gib, known.flexible)
            assert size == (shape.core_count, shape.memory_in_gbs, shape.flexible)
    confirmed = (*load_shapes(), *load_cpu_shapes())
    assert {shape.name for shape in confirmed} <= set(offered)


# Arm processors: NVIDIA's Grace (GB200) and Ampere's (A1); the MI300X is AMD's.
@pytest.mark.parametrize("name", ["BM.GPU.GB200.4", "BM.GPU.MI300X.8", "VM.Standard.A1.Flex"])
def test_a_shape_that_no_image_runs_on_is_known_with_the_reason(name: str) -> None:
    shape = find_shape(name)
    assert isinstance(shape, UnusableShape) and shape.why
    with pytest.raises(SettingsError, match=shape.why.split("(")[0].strip()):
        gpu_shape(name)


@pytest.mark.parametrize(
    ("name", "gpu", "gpus"),
    [("VM.GPU.H100.1", "H100", 1), ("VM.GPU.A100-v2.2", "A100", 2), ("BM.GPU.L40S.8", "L40S", 8)],
)
def test_a_new_size_has_the_gpus_of_its_family(name: str, gpu: str, gpus: int) -> None:
    shape = shape_of_family(name)
    assert shape is not None
    assert (shape.name, shape.gpus) == (name, gpus)
    assert gpu in shape.gpu.replace("-", " ").split()


@pytest.mark.parametrize("name", ["VM.GPU.X1.1", "VM.GPU.A10", "VM.GPU.A10.0", "A10", ""])
def test_a_name_of_no_known_family_has_none(name: str) -> None:
    assert shape_of_family(name) is None


@pytest.mark.parametrize("name", INDEX)
def test_a_shape_has_the_gpus_of_oracles_index(name: str) -> None:
    gpu, gpus, memory = INDEX[name]
    shape = gpu_shape(name)

    assert gpu in shape.gpu.replace("-", " ").split()
    assert (shape.sm, shape.gpus) == (ARCHITECTURES[gpu], gpus)
    # Its GB are binary, where no real GPU was asked.
    assert shape.gpu_memory_gib == REAL_GIB.get(gpu, memory / gpus)
    assert shape.source


def test_a_shape_without_gpus_is_answered_with_those_that_have_some() -> None:
    with pytest.raises(SettingsError, match=r"'VM\.Standard\.E4\.Flex'.*no GPU.*VM\.GPU\.A10\.1"):
        gpu_shape("VM.Standard.E4.Flex")
