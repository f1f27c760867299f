"""`make shapes` as its users see it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PRICES = """
currency = "EUR"
[shape_hour]
"VM.GPU.A10.1" = 2.0
[gpu_hour]
"NVIDIA L40S" = 0.25
"""


def shapes(**variables: str) -> subprocess.CompletedProcess[str]:
    named = {f"FALCONRY_{name}": value for name, value in variables.items()}
    return subprocess.run(
        [sys.executable, "-m", "invoke", "shapes"],
        cwd=ROOT,
        env={**os.environ, **named},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_shapes_are_ranked_before_an_engine_is_built(tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(PRICES)
    told = shapes(PROFILE="oci", CONCURRENCY="16", PRICES=str(prices)).stdout.splitlines()
    assert told[0] == "tiiuae/falcon-7b: Falcon-7B, bfloat16, one GPU of 24 GB"
    assert told[1] == "16 longest requests of 2,048 tokens at a time"
    assert told[3].endswith("EUR an hour")
    assert told[4].split()[0] == "BM.GPU.L40S.4" and told[4].endswith("1.00")
    assert told[6].split()[0] == "VM.GPU.A10.1" and told[6].endswith("2.00")
    assert any(line.startswith("not VM.GPU3.1: ") for line in told)
    assert told[-1].startswith("Ranked by price. Estimated: ")


def test_programs_get_the_same_as_json() -> None:
    told = json.loads(shapes(PROFILE="oci", RECIPE="falcon-40b", JSON="1").stdout)
    best = told["shapes"][0]
    assert (best["shape"], best["gpus"], best["gpus_used"]) == ("BM.GPU.L40S.4", 4, 2)
    assert best["needed_gib"] + best["headroom_gib"] == pytest.approx(best["usable_gib"], abs=0.02)
    assert best["price_hour"] is None and told["currency"] is None
    assert told["estimated"]


def test_the_cpu_profile_gets_cpu_shapes() -> None:
    told = json.loads(shapes(PROFILE="local", CONCURRENCY="4", JSON="1").stdout)
    best = told["shapes"][0]
    assert (best["shape"], best["gpus"], best["ocpus"]) == ("VM.Standard.E4.Flex", 0, 2)
    assert told["request_tokens"] == 512  # the tiny Falcon's positions


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"CONCURRENCY": "many"}, "CONCURRENCY: 'many' is not a positive number"),
        ({"CONCURRENCY": "0"}, "'0' is not a positive number"),
        ({"CONCURRENCY": "1000"}, "more than the recipe's limits.max_batch_size 32"),
        ({"RECIPE": "falcon-8b"}, "there is no recipe 'falcon-8b'"),
        ({"PRICES": "/nowhere.toml"}, "/nowhere.toml: cannot be read"),
        ({"PRICES": "free"}, "gpu_hour.NVIDIA A10: Input should be greater than or equal to 0"),
        ({"PRICES": "unknown"}, "prices what is not in engine/shapes.toml: VM.GPU.A11.1"),
        ({"PRICES": "odd"}, "discount: unknown key"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(
    tmp_path: Path, variables: dict[str, str], said: str
) -> None:
    tables = {
        "free": '[gpu_hour]\n"NVIDIA A10" = -1',
        "unknown": '[shape_hour]\n"VM.GPU.A11.1" = 1',
        "odd": "discount = 3",
    }
    for name, table in tables.items():
        (tmp_path / name).write_text(f'currency = "EUR"\n{table}\n')
    if variables.get("PRICES") in tables:
        variables = {"PRICES": str(tmp_path / variables["PRICES"])}
    refused = shapes(PROFILE="oci", **variables)
    assert refused.returncode == 1
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr and len(refused.stderr.strip().splitlines()) == 1
