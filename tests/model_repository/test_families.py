"""Every family of Falcon, assembled and served by a real Triton, answers as transformers does.

The tiny Falcon of all other tests is a falcon-7b. That the tokens are the same, for all recorded
prompts: falconry/engine/openvino/test_parity.py.
"""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from tokenizers import Tokenizer

from tests.conftest import ROOT, running_triton
from tests.model_repository.contract import Server

FAMILIES = ROOT / "tests/data/checkpoints"


# test_parity.py compares each of these families' engines with transformers, without Triton.
@pytest.mark.parametrize(
    "family",
    [
        pytest.param("falcon-rw", marks=pytest.mark.long),
        pytest.param("falcon-40b", marks=pytest.mark.long),
        pytest.param("falcon2-11b", marks=pytest.mark.long),
        "falcon3",
    ],
)
def test_it_answers_as_transformers_does(make_repository, tmp_path, family):
    checkpoint = FAMILIES / family
    prompts = json.loads((checkpoint / "reference.json").read_text())["prompts"]
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    expected = [tokenizer.decode(one["output_ids"]) for one in prompts]

    with running_triton(make_repository(checkpoint, "cpu-f32"), tmp_path) as url:
        server = Server(url, "cpu")
        with ThreadPoolExecutor(len(prompts)) as pool:
            asked = [pool.submit(server.text, one["text"], 64, end_id=-1) for one in prompts]
        answers = [each.result() for each in asked]

    # A character that the last token leaves unfinished is not shown.
    assert [answer.rstrip("\ufffd") for answer in answers] == [
        text.rstrip("\ufffd") for text in expected
    ]
