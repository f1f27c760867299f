"""What `engine.json` says is what the runtime then does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from falconry.checkpoint.reader import read_checkpoint
from falconry.engine.manifest import EngineLimits
from falconry.engine.openvino.serving import serving_of
from falconry.engine.spec import engine_spec, load_recipe

pytestmark = pytest.mark.slow


def test_the_whole_file_for_the_tiny_falcon(
    tiny_falcon: Path, engine_of: Callable[[Path, str], Path]
) -> None:
    assert json.loads((engine_of(tiny_falcon, "cpu") / "engine.json").read_text()) == {
        "format": 2,
        "kind": "openvino",
        "vocab_size": 768,
        "max_batch_size": 16,
        "max_input_len": 511,
        "max_seq_len": 512,
        "end_ids": [11],
        "pad_id": 11,
        "device": "CPU",
        "device_properties": {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "u8"},
        "scheduler": {
            # 2 GiB in blocks of 4 layers and 1 head: keys (32 + 8) and values 32 * (32 + 8) bytes.
            "num_kv_blocks": 2**31 // (4 * (32 * (32 + 8) + 32 * (32 + 8))),
            "max_num_batched_tokens": 256,
            "max_num_seqs": 16,
            "dynamic_split_fuse": True,
            "enable_prefix_caching": True,
        },
        "kv_block_tokens": 32,
        "kv_block_bytes": 10240,
    }


def test_every_stage_reads_the_limits_from_it(
    tiny_falcon: Path, engine_of: Callable[[Path, str], Path]
) -> None:
    limits = EngineLimits.read(engine_of(tiny_falcon, "cpu"))

    assert (limits.max_batch_size, limits.max_input_len, limits.end_ids) == (16, 511, (11,))


def test_no_end_token_is_an_empty_list(tiny_falcon: Path) -> None:
    spec = engine_spec(read_checkpoint(tiny_falcon), load_recipe("cpu"))
    without = type(spec)(spec.architecture, spec.recipe, spec.limits, end_ids=(), pad_id=0)

    assert serving_of(without).end_ids == ()


@pytest.mark.parametrize(
    ("name", "recipe"), [("falcon-rw", "cpu-f32"), ("falcon-7b", "cpu-bf16"), ("falcon-40b", "cpu")]
)
def test_the_cache_takes_the_memory_that_was_computed(
    name: str,
    recipe: str,
    families: Path,
    engine_of: Callable[[Path, str], Path],
    serve: Callable[[Path], Any],
) -> None:
    served = serve(engine_of(families / name, recipe))
    served.answers([[20]], 1, ignore_eos=True)
    blocks = served.serving["scheduler"]["num_kv_blocks"]

    taken = served.pipeline.get_metrics().cache_size_in_bytes

    assert taken == blocks * served.serving["kv_block_bytes"]
    assert taken <= load_recipe(recipe).kv_cache.memory_gib * 2**30
    assert (
        taken + served.serving["kv_block_bytes"] > load_recipe(recipe).kv_cache.memory_gib * 2**30
    )
