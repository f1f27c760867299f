"""How a refusal tells what failed."""

from __future__ import annotations

import pytest

from falconry.engine.tensorrt_llm.machine_checks import machine_checks
from falconry.engine.tensorrt_llm.spec_checks import spec_checks
from falconry.errors import EngineError
from falconry.findings import refuse
from tests.falconry.engine.tensorrt_llm.checking import machine
from tests.falconry.engine.tensorrt_llm.specs import spec


def test_nothing_is_refused_when_everything_is_well() -> None:
    refuse(spec_checks(spec()), EngineError, "this engine")


def test_one_failure_is_told_with_its_remedy() -> None:
    with pytest.raises(EngineError) as caught:
        refuse(machine_checks(spec(), machine(docker_gpus=False)), EngineError, "this engine")

    assert str(caught.value) == (
        "no NVIDIA GPU is visible to Docker; run on a GPU runner (docs/ci) or build the CPU"
        " engine: make engine RECIPE=cpu PROFILE=local"
    )


def test_all_failures_are_told_together_in_one_line() -> None:
    built = spec(limits={"max_seq_len": 4096}, kv_cache={"tokens_per_block": 48})
    with pytest.raises(EngineError) as caught:
        found = [*spec_checks(built), *machine_checks(built, machine(docker_gpus=False))]
        refuse(found, EngineError, "this engine")

    told = str(caught.value)
    assert "\n" not in told
    assert told.startswith("3 things prevent this engine: (1) limits.max_seq_len 4096")
    assert "set limits.max_seq_len to 2048 or less; (2) " in told
    assert "(3) no NVIDIA GPU is visible to Docker: run on a GPU runner" in told
