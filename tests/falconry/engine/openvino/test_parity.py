"""The engines' answers are those that transformers gave for the same checkpoints."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

pytestmark = pytest.mark.slow

Engine = Callable[[Path, str], Path]
Serve = Callable[[Path], Any]

FALCON3 = ["falcon3", "falcon3-wide", "falcon3-tied"]

each_family = pytest.mark.parametrize(
    "name", ["falcon-rw", "falcon-7b", "falcon-40b", "falcon2-11b", *FALCON3]
)


@each_family
def test_float32_answers_equal_those_of_transformers_token_for_token(
    name: str, families: Path, engine_of: Engine, serve: Serve
) -> None:
    prompts = json.loads((families / name / "reference.json").read_text())["prompts"]

    served = serve(engine_of(families / name, "cpu-f32"))
    answers = served.answers([one["input_ids"] for one in prompts], 64, ignore_eos=True)

    assert answers == [one["output_ids"] for one in prompts]


def test_a_base_of_rope_that_was_lost_gives_other_answers(
    families: Path,
    build_engine: Callable[[Path, str, Path], Path],
    serve: Serve,
    tmp_path: Path,
) -> None:
    """What makes a lost `rope_theta` seen: versions of transformers 4 read 10000 then."""
    lost = shutil.copytree(families / "falcon3", tmp_path / "lost")
    config = json.loads((lost / "config.json").read_text())
    (lost / "config.json").write_text(json.dumps(config | {"rope_theta": 10000.0}))
    prompts = json.loads((lost / "reference.json").read_text())["prompts"]

    served = serve(build_engine(lost, "cpu-f32", tmp_path / "engine"))
    answers = served.answers([one["input_ids"] for one in prompts], 64, ignore_eos=True)

    assert not [one for one, ids in zip(prompts, answers, strict=True) if one["output_ids"] == ids]


@pytest.mark.parametrize("recipe", ["cpu", "cpu-bf16", "cpu-f32"])
def test_the_tiny_falcon_keeps_every_answer_with_every_recipe(
    recipe: str, tiny_falcon: Path, engine_of: Engine, serve: Serve
) -> None:
    sentences = json.loads((tiny_falcon / "sentences.json").read_text())["sentences"]
    tokenizer = Tokenizer.from_file(str(tiny_falcon / "tokenizer.json"))
    served = serve(engine_of(tiny_falcon, recipe))

    answers = served.answers(
        [tokenizer.encode(one["prompt"]).ids for one in sentences],
        200,
        eos_token_id=served.serving["end_ids"][0],
        stop_token_ids=set(served.serving["end_ids"]),
    )

    assert [tokenizer.decode(ids) for ids in answers] == [one["answer"] for one in sentences]


@pytest.mark.parametrize(
    ("name", "model_type"), [("falcon-7b", "RefinedWebModel"), ("falcon-40b", "RefinedWeb")]
)
def test_a_configuration_of_before_transformers_gives_the_same_engine(
    name: str,
    model_type: str,
    families: Path,
    engine_of: Engine,
    build_engine: Callable[[Path, str, Path], Path],
    tmp_path: Path,
) -> None:
    legacy = shutil.copytree(families / name, tmp_path / "legacy")
    config = json.loads((legacy / "config.json").read_text())
    for old, new in (
        ("n_layer", "num_hidden_layers"),
        ("n_head", "num_attention_heads"),
        ("n_head_kv", "num_kv_heads"),
    ):
        if new in config:
            config[old] = config.pop(new)
    config.pop("new_decoder_architecture")
    (legacy / "config.json").write_text(json.dumps(config | {"model_type": model_type}))

    old_engine = build_engine(legacy, "cpu-f32", tmp_path / "engine")
    new_engine = engine_of(families / name, "cpu-f32")

    for path in sorted(new_engine.iterdir()):
        assert (old_engine / path.name).read_bytes() == path.read_bytes(), path.name
