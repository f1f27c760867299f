import json

import pytest

from falconry.repository.config import read_config


@pytest.fixture(scope="module")
def repository(make_repository):
    return make_repository()


def test_the_engine_is_hard_linked(repository, store):
    served = repository / "tensorrt_llm/1/openvino_model.bin"
    assert any(served.samefile(file) for file in store.glob("*/openvino_model.bin"))


def test_the_engines_manifest_is_not_served(repository):
    assert not list(repository.rglob("manifest.json"))


def test_every_model_takes_what_the_engine_takes(repository):
    engine = json.loads((repository / "tensorrt_llm/1/engine.json").read_text())
    for path in repository.glob("*/config.pbtxt"):
        assert read_config(path).max_batch_size == engine["max_batch_size"]
    for model in ("preprocessing", "tensorrt_llm_bls"):
        parameters = read_config(repository / model / "config.pbtxt").parameters
        for name in ("max_input_len", "max_seq_len", "pad_id"):
            assert int(parameters[name].string_value) == engine[name]
        assert json.loads(parameters["end_ids"].string_value) == engine["end_ids"]


def test_a_request_may_have_many_responses(repository):
    for model in ("tensorrt_llm", "tensorrt_llm_bls"):
        config = read_config(repository / model / "config.pbtxt")
        assert config.model_transaction_policy.decoupled


def test_models_that_know_text_have_the_engines_tokenizer(repository):
    engine = (repository / "tensorrt_llm/1/tokenizer.json").read_bytes()
    for model in ("preprocessing", "postprocessing", "tensorrt_llm_bls"):
        assert (repository / model / "1/tokenizer.json").read_bytes() == engine


def test_what_models_share_is_the_same_and_nothing_points_elsewhere(repository):
    front = repository / "tensorrt_llm_bls/1"
    assert (front / "text.py").read_bytes() == (repository / "tensorrt_llm/1/text.py").read_bytes()
    prompts = (repository / "preprocessing/1/prompts.py").read_bytes()
    assert (front / "prompts.py").read_bytes() == prompts
    assert not any(path.is_symlink() for path in repository.rglob("*"))
