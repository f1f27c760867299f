"""Memory estimates against numbers that others measured or published."""

from __future__ import annotations

import pytest

from falconry.engine.tensorrt_llm.memory import GIB, MIB, estimate, sum_line, usable_bytes
from falconry.oci_facts import gpu_shape
from tests.falconry.engine.tensorrt_llm.specs import A10, MODELS, spec

AWQ = {"dataset": "cnn_dailymail", "size": 512, "awq_block_size": 64}


def test_a_float16_engine_of_falcon_7b_has_the_size_that_was_measured() -> None:
    # triton-inference-server/tensorrtllm_backend#299: "Loaded engine size: 13768 MiB".
    assert estimate(spec("falcon-7b")).weights / MIB == pytest.approx(13768, rel=0.001)


def test_a_token_of_falcon_7b_takes_8_kib_of_cache() -> None:
    # Keys and values of one head of 64 in each of 32 layers, two bytes each: 2 * 64 * 32 * 2.
    # All layers together, as the only key/value head is shared by the 71 query heads.
    memory = estimate(spec("falcon-7b", limits={"max_seq_len": 2048}))

    assert memory.kv_cache_request == 2048 * 8 * 1024


@pytest.mark.parametrize(("model", "kib"), [("falcon-7b", 8), ("falcon-40b", 60)])
def test_the_cache_of_a_token_is_split_with_its_heads(model: str, kib: int) -> None:
    # Falcon-40B: 2 * 8 heads * 64 * 60 layers * 2 bytes = 120 KiB, over two GPUs.
    memory = estimate(spec(model, limits={"max_seq_len": 1024}))

    assert memory.kv_cache_request == 1024 * kib * 1024


@pytest.mark.parametrize(
    ("model", "kib"),
    # 2 * 4 heads of 256 in each of the layers, two bytes each; 10B's over two GPUs.
    [("falcon3-1b", 72), ("falcon3-7b", 112), ("falcon3-10b", 80)],
)
def test_a_token_of_falcon3_takes_the_cache_of_four_heads(model: str, kib: int) -> None:
    memory = estimate(spec(model, limits={"max_seq_len": 1024}))

    assert memory.kv_cache_request == 1024 * kib * 1024


def test_a_shared_key_value_head_is_on_every_rank() -> None:
    one = estimate(spec("falcon-40b", parallelism={"tensor": 8}))
    shared = estimate(spec("falcon-40b", parallelism={"tensor": 16}))

    assert shared.kv_cache_request == one.kv_cache_request


def test_the_cache_is_given_in_whole_blocks_for_every_beam() -> None:
    limits = {"max_seq_len": 100, "max_input_len": 50, "max_beam_width": 2}
    memory = estimate(spec(limits=limits, kv_cache={"tokens_per_block": 64}))

    assert memory.kv_cache_request == 2 * 128 * 8 * 1024


@pytest.mark.parametrize("dtype", ["int8", "fp8"])
def test_a_quantised_cache_takes_half(dtype: str) -> None:
    plain, small = estimate(spec()), estimate(spec(kv_cache={"dtype": dtype}))

    assert 2 * small.kv_cache_request == plain.kv_cache_request


def test_the_full_cache_is_that_of_every_request_at_its_longest() -> None:
    memory = estimate(spec(limits={"max_batch_size": 16}))

    assert memory.kv_cache_full == 16 * memory.kv_cache_request


# Falcon-7B's blocks have 6,626 million weights in matrices (4,672 + 4,544 + 8 * 4,544 rows of
# 4,544 in 32 layers); embedding and output, 591 million more, stay float16.
@pytest.mark.parametrize(
    ("quantization", "bytes_a_weight"),
    [("none", 2), ("int8_weight_only", 1), ("fp8", 1), ("int4_weight_only", 0.5)],
)
def test_quantisation_shrinks_the_matrices_of_the_blocks(
    quantization: str, bytes_a_weight: float
) -> None:
    weights = estimate(spec("falcon-7b", quantization=quantization)).weights

    assert weights == pytest.approx(6.626e9 * bytes_a_weight + 2 * 0.591e9, rel=0.002)


def test_awq_has_a_scale_for_every_block_of_weights() -> None:
    coarse, fine = (
        estimate(spec(quantization="int4_awq", calibration={**AWQ, "awq_block_size": size}))
        for size in (128, 64)
    )

    # Twice the scales of two bytes: one more for each 128 of 6,626 million weights.
    assert fine.weights - coarse.weights == pytest.approx(2 * 6.626e9 / 128, rel=0.01)


@pytest.mark.parametrize(
    ("model", "billions"),
    # Parameters of the model cards; the output projection is a matrix of its own in an engine.
    [
        ("falcon-rw-1b", 1.31 + 0.10),
        ("falcon-7b", 6.92 + 0.30),
        ("falcon-40b", 41.8),
        ("falcon-180b", 179.5),
        ("falcon2-11b", 11.1),
        # The shards on the hub: 7B's 14.91 GB, 10B's 20.61 GB, two bytes a weight.
        ("falcon3-1b", 1.669),
        ("falcon3-7b", 14.91 / 2),
        ("falcon3-10b", 20.61 / 2),
    ],
)
def test_a_whole_model_has_the_published_number_of_weights(model: str, billions: float) -> None:
    weights = estimate(spec(model, parallelism={"tensor": 1})).weights

    assert weights / 2e9 == pytest.approx(billions, rel=0.001 if "falcon3" in model else 0.02)


@pytest.mark.parametrize(("tensor", "pipeline"), [(2, 1), (4, 1), (1, 2), (2, 2), (4, 2)])
def test_each_rank_has_its_part_of_the_blocks(tensor: int, pipeline: int) -> None:
    whole = estimate(spec("falcon-40b", parallelism={"tensor": 1})).weights
    part = estimate(
        spec("falcon-40b", parallelism={"tensor": tensor, "pipeline": pipeline})
    ).weights

    # The embedding (1.07 GB) is whole on each rank of the first stage.
    embedding = 65024 * 8192 * 2
    assert whole / (tensor * pipeline) <= part <= whole / (tensor * pipeline) + embedding


def test_activations_are_near_those_that_nvidia_logged() -> None:
    # TensorRT-LLM, docs/source/reference/memory.md: 1134.01 MiB of execution context on each of
    # two ranks of a model with LLaMA-7B's cache, taken as built with the default of 8,192 tokens.
    llama = {
        "hidden_size": 4096,
        "num_heads": 32,
        "num_kv_heads": 32,
        "head_size": 128,
        "ffn_hidden_size": 11008,
        "vocab_size": 32000,
    }
    built = spec(
        "falcon3-7b",
        architecture=llama,
        parallelism={"tensor": 2},
        limits={"max_num_tokens": 8192, "max_batch_size": 1},
    )

    assert estimate(built).activations / MIB == pytest.approx(1134, rel=0.1)


@pytest.mark.parametrize(
    "change",
    [
        {"limits": {"max_num_tokens": 8192}},
        {"limits": {"max_batch_size": 64}},
        {"limits": {"max_beam_width": 4}},
        {"plugins": {"context_fmha": False, "paged_context_fmha": False}},
        {"plugins": {"remove_input_padding": False}},
    ],
)
def test_activations_grow_with_what_nvidia_says_they_grow_with(change: dict[str, object]) -> None:
    # TensorRT-LLM, docs/source/reference/memory.md, "Activation size".
    assert estimate(spec(**change)).activations > estimate(spec()).activations


def test_an_engine_of_falcon_7b_fits_an_a10_with_room_for_its_requests() -> None:
    memory = estimate(spec("falcon-7b"))

    assert memory.needed < usable_bytes(A10)
    assert memory.longest_requests(usable_bytes(A10)) == 16


def test_fewer_longest_requests_fit_when_memory_is_short() -> None:
    memory = estimate(spec("falcon-7b"))
    three = memory.without_cache + int(3.5 * memory.kv_cache_request / 0.9)

    assert memory.longest_requests(three) == 3
    assert memory.longest_requests(memory.weights) == 0


def test_a_gpu_gives_what_cuda_showed_on_oracles_and_else_a_share_of_its_memory() -> None:
    # A log in oci-data-science-ai-samples: 22.07 GiB of an A10. TensorRT-LLM's docs: 79.10 GiB of
    # a GPU of 80 GiB.
    assert usable_bytes(gpu_shape("VM.GPU.A10.1")) == int(22.07 * GIB)
    assert 70 * GIB < usable_bytes(gpu_shape("BM.GPU.H100.8")) <= 79.10 * GIB


@pytest.mark.parametrize("model", MODELS)
def test_the_sum_is_shown_with_its_parts(model: str) -> None:
    memory = estimate(spec(model))
    words = sum_line(memory, 24 * GIB)

    numbers = [float(word) for word in words.split() if word[0].isdigit()]
    assert sum(numbers[:4]) == pytest.approx(numbers[4], abs=0.021)
    assert numbers[4] == pytest.approx(memory.needed / GIB, abs=0.005)
    assert words.endswith("of 24.00 GiB a GPU")
    assert "\n" not in words


def test_a_build_writes_the_converted_checkpoint_and_the_engine() -> None:
    memory = estimate(spec("falcon-7b"))

    assert memory.build_disk_bytes == 2 * memory.weights


def test_all_ranks_are_written() -> None:
    memory = estimate(spec("falcon-40b", parallelism={"tensor": 2, "pipeline": 2}))

    assert 3 * memory.weights < memory.build_disk_bytes / 2 <= 4 * memory.weights


def test_an_image_may_take_twice_its_listed_size() -> None:
    # 24.04: 34 GB listed by the compatibility matrix, 18.46 GB by the registry.
    assert estimate(spec(toolchain={"listed_gb": 18.46})).image_disk_bytes >= 34e9
