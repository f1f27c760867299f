"""What OpenVINO's CPU plugin makes of the graph when it compiles it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import openvino as ov
import pytest
from openvino._offline_transformations import paged_attention_transformation

pytestmark = pytest.mark.slow

Engine = Callable[[Path, str], Path]


def executed(engine: Path, precision: str) -> Counter[tuple[str, str]]:
    """How many operations of each kind and precision are executed."""
    core = ov.Core()
    model = core.read_model(engine / "openvino_model.xml")
    paged_attention_transformation(model)
    compiled = core.compile_model(
        model, "CPU", {"INFERENCE_PRECISION_HINT": precision, "KV_CACHE_PRECISION": "u8"}
    )
    facts = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    return Counter(
        (fact["layerType"].astype(str), fact["runtimePrecision"].astype(str)) for fact in facts
    )


@pytest.mark.parametrize(
    ("name", "layers"), [("falcon-7b", 3), ("falcon-40b", 2), ("falcon3-wide", 2)]
)
def test_rotary_embeddings_are_fused_so_that_their_angles_stay_float32(
    name: str, layers: int, families: Path, engine_of: Engine
) -> None:
    operations = executed(engine_of(families / name, "cpu-bf16"), "bf16")

    assert sum(n for (kind, _), n in operations.items() if kind == "RoPE") == 2 * layers
    assert operations["Math", "f32"] == 2  # sine and cosine, once for all layers
    assert operations["Concatenation", "f32"] == 1  # of the angles
    assert not [kind for kind, precision in operations if (kind, precision) == ("Math", "bf16")]


@pytest.mark.parametrize(("recipe", "stored"), [("cpu", "i8"), ("cpu-bf16", "bf16")])
def test_weights_stay_in_the_bits_they_are_stored_in(
    recipe: str, stored: str, families: Path, engine_of: Engine
) -> None:
    operations = executed(engine_of(families / "falcon-7b", recipe), "f32")

    # Four matrices a layer, and the output projection that is the embedding.
    assert operations["FullyConnected", stored] == 4 * 3 + 1
    assert operations["Gather", stored] == 1


def test_the_norms_of_a_falcon3_are_fused_and_its_mlp_is_not(
    families: Path, engine_of: Engine
) -> None:
    """A fused MLP would keep its weights a second time, in float16."""
    operations = executed(engine_of(families / "falcon3-wide", "cpu-bf16"), "bf16")
    kinds = Counter(kind for (kind, _), count in operations.items() for _ in range(count))

    assert kinds["RMS"] == 2 * 2 + 1  # two a layer, and the last one
    assert kinds["PagedAttention"] == 2
    # Query, key, value, output, gate, up and down in each layer, and the output projection.
    assert kinds["FullyConnected"] == 7 * 2 + 1
    assert "LLMMLP" not in kinds
