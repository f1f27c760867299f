"""Texts of others against every pattern that reads them: the longer text takes no longer path.

Each would take minutes where a pattern gives characters back.
"""

import pytest

from falconry.docker_engine.registry_errors import explain
from falconry.engine.tensorrt_llm.build_log import BuildLog
from falconry.image import image_checks, registry
from scripts.fuzz.exploring import time_limit

LONG = 100_000
BEGINNINGS = {
    "letters": "a",
    "words": "a-",
    "quotes": 'a="',
    "spaces": " ",
    "assignments": "--a=",
    "errors": "error: argument ",
    "CUDA errors": "CUDA error ",
    "repositories": "repository ",
    "manifests": "manifest for ",
    "brackets": "[",
    "URLs": "://a:bbb",
}
TEXTS = {name: beginning * (LONG // len(beginning)) for name, beginning in BEGINNINGS.items()}


@pytest.fixture(autouse=True)
def _limit():
    with time_limit(30):
        yield


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_build_s_log_is_read_in_one_pass(text):
    log = BuildLog()
    for start in range(0, len(text), 8_000):
        log.read(text[start : start + 8_000].encode() + b"\n")
    assert log.cause(1, False)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_registry_s_answer_is_understood_in_one_pass(text):
    assert explain("registry", text)
    assert dict(registry.challenge_fields(text)) in ({}, {"a": "a="})


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_an_image_s_history_is_searched_in_one_pass(text):
    assert image_checks.credentials(text, []) == []
