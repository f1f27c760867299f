import json

import pytest

from falconry.repository.config import read_config


@pytest.fixture(scope="module", params=["generate", "infer"])
def route(request):
    return request.param


@pytest.fixture(scope="module")
def repository(make_repository, route):
    return make_repository(route)


def test_the_engine_is_hard_linked(repository, store):
    served = repository / "tensorrt_llm/1/openvino_model.bin"
    assert any(served.samefile(file) for file in store.glob("*/openvino_model.bin"))


def test_the_engines_manifest_is_not_served(repository):
    assert not list(repository.rglob("manifest.json"))


def test_every_model_takes_what_the_engine_takes(repository):
    engine = json.loads((repository / "tensorrt_llm/1/engine.json").read_text())
    for path in repository.glob("*/config.pbtxt"):
        assert read_config(path).max_batch_size == engine["max_batch_size"]
    parameters = read_config(repository / "preprocessing/config.pbtxt").parameters
    for name in ("max_input_len", "max_seq_len", "end_id", "pad_id"):
        assert int(parameters[name].string_value) == engine[name]


def test_the_route_decides_whether_a_request_may_have_many_responses(repository, route):
    config = read_config(repository / "tensorrt_llm/config.pbtxt")
    assert config.model_transaction_policy.decoupled == (route == "generate")


def test_pre_and_postprocessing_have_the_engines_tokenizer(repository):
    engine = (repository / "tensorrt_llm/1/tokenizer.json").read_bytes()
    for model in ("preprocessing", "postprocessing"):
        assert (repository / model / "1/tokenizer.json").read_bytes() == engine
