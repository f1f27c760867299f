"""What is refused before a machine is asked, and that each refusal says what to change."""

from __future__ import annotations

from typing import Any

import pytest

from falconry.engine.tensorrt_llm.spec_checks import spec_checks
from falconry.findings import Finding
from tests.falconry.engine.tensorrt_llm.checking import check_refusal, failures
from tests.falconry.engine.tensorrt_llm.specs import A100, MODELS, spec


@pytest.mark.parametrize("model", MODELS)
def test_each_falcon_passes_with_a_recipe_that_suits_it(model: str) -> None:
    assert not failures(spec_checks(spec(model)))


# Changes to a spec that passes; what the check finds; what it says to change.
REFUSALS: list[tuple[str, dict[str, Any], str, str, str]] = [
    (
        "falcon-7b",
        {"parallelism": {"tensor": 2}, "shape": A100},
        "heads",
        "71 attention heads (a prime number) cannot be split evenly over parallelism.tensor = 2",
        "set parallelism.tensor to 1 and split by parallelism.pipeline instead",
    ),
    (
        "falcon-40b",
        {"architecture": {"num_kv_heads": 1, "vocab_size": 195072}, "parallelism": {"tensor": 3}},
        "heads",
        "128 attention heads cannot be split evenly",
        "set parallelism.tensor to 1, 2, 4 or 8",
    ),
    (
        "falcon-40b",
        {"architecture": {"ffn_hidden_size": 32766}, "parallelism": {"tensor": 4}},
        "heads",
        "32766 rows of the MLP cannot be split evenly",
        "set parallelism.tensor to 1 or 2",
    ),
    (
        "falcon-40b",
        {"architecture": {"num_heads": 120, "num_kv_heads": 6}, "parallelism": {"tensor": 4}},
        "key/value heads",
        "6 key/value heads are neither a multiple nor a divisor",
        "set parallelism.tensor to 1 or 2",
    ),
    (
        "falcon-40b",
        {"architecture": {"vocab_size": 65025}},
        "vocabulary",
        "a vocabulary of 65025 tokens cannot be split evenly over parallelism.tensor = 2",
        "set parallelism.tensor to 1",
    ),
    (
        "falcon2-11b",
        {"load_by_shard": True},
        "loading by shard",
        "loses the checkpoint's own output projection",
        "set load_by_shard = false",
    ),
    (
        # 12 heads for 4 key/value heads, split 3 ways.
        "falcon3-7b",
        {"parallelism": {"tensor": 3}, "shape": A100, "architecture": {"vocab_size": 393216}},
        "key/value heads",
        "4 key/value heads are neither a multiple nor a divisor",
        "set parallelism.tensor to 1, 2 or 4",
    ),
    (
        # 8 would share the key/value heads, and does not divide the 12 query heads.
        "falcon3-10b",
        {"parallelism": {"tensor": 8}},
        "heads",
        "12 attention heads cannot be split evenly over parallelism.tensor = 8",
        "set parallelism.tensor to 1, 2 or 4",
    ),
    (
        "falcon-7b",
        {"parallelism": {"pipeline": 3}, "shape": A100},
        "layers",
        "32 layers cannot be split evenly over parallelism.pipeline = 3",
        "set parallelism.pipeline to 1, 2, 4 or 8",
    ),
    (
        "falcon-7b",
        {"parallelism": {"pipeline": 2}},
        "GPUs of the shape",
        "takes 2 GPUs, and VM.GPU.A10.1 has 1",
        "split less, or set deployment.shape to ",
    ),
    (
        "falcon-7b",
        {"toolchain": {"sm": (80, 90)}},
        "GPU architecture",
        "TensorRT-LLM 1.0.0 does not support SM 86 (NVIDIA A10)",
        "set engine.toolchain to ",
    ),
    (
        "falcon-40b",
        {"parallelism": {"tensor": 1}},
        "GPU memory",
        "does not fit into BM.GPU.A100-v2.8's GPUs: 77.",
        "quantise the weights, or split over more GPUs",
    ),
]


@pytest.mark.parametrize(
    ("model", "changes", "name", "problem", "remedy"),
    REFUSALS,
    ids=[f"{name}: {problem[:40]}" for _, _, name, problem, _ in REFUSALS],
)
def test_what_cannot_be_built_is_refused_with_what_to_change(
    model: str, changes: dict[str, Any], name: str, problem: str, remedy: str
) -> None:
    check_refusal(spec(model, **changes), name, problem, remedy)


# The same demands where they can be met.
@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("falcon-7b", {"parallelism": {"pipeline": 2}, "shape": A100}),
        ("falcon-40b", {"parallelism": {"tensor": 8}}),
        ("falcon-40b", {"load_by_shard": True}),
        ("falcon-40b", {"parallelism": {"tensor": 2, "pipeline": 2}}),
        ("falcon-180b", {"parallelism": {"tensor": 4, "pipeline": 2}}),
        ("falcon3-1b", {"parallelism": {"tensor": 8}, "shape": A100}),
        ("falcon3-10b", {"parallelism": {"tensor": 4, "pipeline": 2}}),
        ("falcon3-10b", {"load_by_shard": True}),
    ],
)
def test_what_can_be_built_is_accepted(model: str, changes: dict[str, Any]) -> None:
    assert not failures(spec_checks(spec(model, **changes)))


def test_another_llama_is_accepted_with_a_warning() -> None:
    def model(**changes: Any) -> Finding:
        found = spec_checks(spec("falcon3-7b", architecture=changes))
        return next(check for check in found if check.check == "model")

    assert (model().state, model().text) == ("ok", "falcon3")
    other = model(rope_theta=500000.0)
    assert other.state == "warning"
    assert "a Llama that is no Falcon3 (its rope_theta is 500000" in other.text


def test_the_sum_of_the_memory_is_shown_even_when_it_fits() -> None:
    memory = next(check for check in spec_checks(spec()) if check.check == "GPU memory")

    assert "weights" in memory.text and "= " in memory.text and "GiB a GPU" in memory.text
    assert memory.remedy == ""


@pytest.mark.parametrize(
    ("size", "warned"), [(14.2, False), (16.0, False), (16.21, True), (22.0, True)]
)
def test_an_image_beyond_oracles_limit_is_warned_of_and_not_refused(
    size: float, warned: bool
) -> None:
    # Oracle: "image size within 16 GB"; the default image is listed with 16.21 GB.
    checks = spec_checks(spec(toolchain={"listed_gb": size}))
    image = next(check for check in checks if check.check == "image size")

    assert image.state == ("warning" if warned else "ok")
    assert ("may be refused" in image.text) == warned
    assert image.remedy == ("set engine.toolchain to 26.07" if warned else "")


def test_nothing_in_a_broken_spec_keeps_the_other_checks_from_being_made() -> None:
    broken = spec(
        "falcon-7b",
        parallelism={"tensor": 3, "pipeline": 5},
        limits={"max_seq_len": 9000, "max_input_len": 9001, "max_num_tokens": 1},
        quantization="fp8",
        plugins={"remove_input_padding": False},
        kv_cache={"tokens_per_block": 3},
    )

    assert set(failures(spec_checks(broken))) >= {
        "heads",
        "layers",
        "GPUs of the shape",
        "FP8",
        "calibration",
        "sequence length",
        "prompt length",
        "tokens of a step",
        "in-flight batching",
        "cache blocks",
    }
