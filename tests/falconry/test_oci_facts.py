"""Shapes: what OCI's GPU shapes hold, and what is said of another shape."""

from __future__ import annotations

import pytest

from falconry.errors import SettingsError
from falconry.oci_facts import gpu_shape, load_shapes

# oracle/accelerated-data-science, ads/aqua/resources/gpu_shapes_index.json at 26fd79b2d159: the
# GPU's type, how many there are, and their memory together in GB.
INDEX = {
    "VM.GPU2.1": ("P100", 1, 16),
    "VM.GPU3.1": ("V100", 1, 16),
    "VM.GPU3.2": ("V100", 2, 32),
    "VM.GPU3.4": ("V100", 4, 64),
    "BM.GPU3.8": ("V100", 8, 128),
    "BM.GPU4.8": ("A100", 8, 320),
    "BM.GPU.A100-v2.8": ("A100", 8, 640),
    "VM.GPU.A10.1": ("A10", 1, 24),
    "VM.GPU.A10.2": ("A10", 2, 48),
    "BM.GPU.A10.4": ("A10", 4, 96),
    "BM.GPU.L40S.4": ("L40S", 4, 192),
    "BM.GPU.H100.8": ("H100", 8, 640),
    "BM.GPU.H200.8": ("H200", 8, 1128),
}

# Of tests/data/gpus, rounded down.
REAL_GIB = {"H100": 79.6, "H200": 140.4}

# Compute capabilities, developer.nvidia.com/cuda-gpus, times ten.
ARCHITECTURES = {"P100": 60, "V100": 70, "A100": 80, "A10": 86, "L40S": 89, "H100": 90, "H200": 90}


def test_the_shapes_are_those_of_oracles_index() -> None:
    assert {shape.name for shape in load_shapes()} == set(INDEX)


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
    with pytest.raises(SettingsError, match=r"'VM\.Standard\.E4\.Flex'.*VM\.GPU\.A10\.1"):
        gpu_shape("VM.Standard.E4.Flex")
