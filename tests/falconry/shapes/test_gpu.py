"""GPU shapes beside the published Falcons; sizes and counts are those that others published."""

from __future__ import annotations

import pytest

from falconry.engine.tensorrt_llm.memory import GIB
from falconry.errors import SettingsError
from falconry.oci_facts import load_shapes
from falconry.shapes.candidates import Candidate, ranked
from falconry.shapes.gpu import gpu_candidates
from falconry.shapes.prices import Prices
from tests.falconry.engine.tensorrt_llm.specs import spec
from tests.falconry.engine.test_preflight import manifest


def candidates(
    model: str = "falcon-7b", concurrency: int = 1, **changes: object
) -> list[Candidate]:
    built = changes.pop("built", None)
    prices = changes.pop("prices", None)
    return gpu_candidates(spec(model, **changes), load_shapes(), concurrency, built, prices)  # type: ignore[arg-type]


def by_name(*arguments: object, **changes: object) -> dict[str, Candidate]:
    return {each.shape: each for each in candidates(*arguments, **changes)}  # type: ignore[arg-type]


def test_falcon_7b_in_float16_fits_an_a10_as_oracles_sample_deploys_it() -> None:
    # oci-data-science-ai-samples, Triton_TensorRT: Falcon-7B on VM.GPU.A10.1.
    # tensorrtllm_backend#299: an engine of 13,768 MiB; and CUDA gives 22.07 GiB of an A10.
    a10 = by_name()["VM.GPU.A10.1"]
    assert a10.fits
    assert (a10.gpus, a10.gpus_used, a10.sm) == (1, 1, 86)
    assert 13_768 / 1024 < a10.needed / GIB < 13_768 / 1024 + 3
    assert a10.headroom / GIB == pytest.approx(22.07 - a10.needed / GIB, abs=0.05)


def test_falcon_40b_needs_two_of_the_gpus_with_80_gb() -> None:
    # tiiuae/falcon-40b's card: 85 to 100 GB of memory for inference; TensorRT-LLM's
    # examples/falcon/README.md builds it for two GPUs.
    found = by_name("falcon-40b")
    assert found["BM.GPU.A100-v2.8"].fits and found["BM.GPU.A100-v2.8"].gpus_used == 2
    assert not found["VM.GPU.A10.2"].fits
    one = by_name("falcon-40b", parallelism={"tensor": 1})
    assert not one["BM.GPU.A100-v2.8"].fits
    assert one["BM.GPU.H200.8"].fits  # 141 GB a GPU


def test_falcon_180b_needs_all_eight() -> None:
    # tiiuae/falcon-180B's card: at least 400 GB of memory; README of the examples: eight GPUs.
    fitting = {each.shape for each in candidates("falcon-180b") if each.fits}
    assert fitting == {"BM.GPU.A100-v2.8", "BM.GPU.H100.8", "BM.GPU.H200.8"}


def test_a_split_that_would_do_is_named() -> None:
    told = by_name("falcon-40b")["BM.GPU4.8"]  # eight of 40 GB
    assert not told.fits
    assert told.remedy == "parallelism.tensor = 4 in the recipe"
    assert by_name("falcon-7b")["VM.GPU3.1"].remedy is None


def test_requests_at_a_time_need_their_cache() -> None:
    # Falcon-7B's cache takes 8 KiB a token: 16 MiB for 2,048 tokens, of 90 % of what is free.
    one, many = (
        by_name(concurrency=count, limits={"max_batch_size": 64})["VM.GPU.A10.1"]
        for count in (1, 64)
    )
    assert (many.needed - one.needed) / GIB == pytest.approx(63 * 16 / 0.9 / 1024, rel=0.001)


def test_too_little_cache_is_a_reason() -> None:
    # Falcon-40B's cache takes 60 KiB a token on each of two GPUs: 120 MiB a request.
    limits = {"max_batch_size": 64, "max_num_tokens": 2048, "max_input_len": 1024}
    told = by_name("falcon-40b", concurrency=64, limits=limits)["BM.GPU.L40S.4"]
    assert not told.fits
    assert "longest requests at a time, not 64" in told.problems[0]


def test_more_requests_than_the_engine_takes_are_one_sentence() -> None:
    with pytest.raises(SettingsError, match=r"CONCURRENCY: 17 requests.*max_batch_size 16"):
        candidates(concurrency=17)


def test_an_engine_that_stands_runs_on_its_architecture_alone() -> None:
    found = by_name(built=manifest(sm=86).gpu)
    assert found["VM.GPU.A10.2"].engine == "as built"
    assert found["BM.GPU.H100.8"].engine == "to be built"


def test_without_prices_the_least_memory_comes_first() -> None:
    assert [each.shape for each in ranked(candidates()) if each.fits][:3] == [
        "VM.GPU.A10.1",
        "VM.GPU.A10.2",
        "BM.GPU.A10.4",
    ]


def test_with_prices_the_cheapest_comes_first_and_unknown_prices_last() -> None:
    prices = Prices(
        currency="EUR",
        shape_hour={"VM.GPU.A10.1": 9.0, "BM.GPU.H100.8": 1.0},
        gpu_hour={"NVIDIA A10": 2.0},
    )
    order = [(each.shape, each.price_hour) for each in ranked(candidates(prices=prices))]
    assert order[:4] == [
        ("BM.GPU.H100.8", 1.0),
        ("VM.GPU.A10.2", 4.0),
        ("BM.GPU.A10.4", 8.0),
        ("VM.GPU.A10.1", 9.0),
    ]
    assert order[4][1] is None
