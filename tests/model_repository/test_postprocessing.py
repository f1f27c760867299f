"""Token ids to text: what wrong requests are told, whoever they come with."""

import importlib.util
import sys
import types

import numpy as np
import pytest

from tests.conftest import ROOT

TINY = ROOT / "checkpoints/tiny-falcon/tokenizer.json"
MODEL = ROOT / "model_repository/postprocessing/1/model.py"


@pytest.fixture
def execute(monkeypatch, tmp_path):
    """The served model in this process; each request is its tokens and their lengths."""
    backend = types.SimpleNamespace(
        Tensor=lambda name, values: values,
        InferenceResponse=lambda tensors=(), error=None: error or tensors[0].tolist(),
        TritonError=lambda reason, code: reason,
        get_input_tensor_by_name=lambda request, name: types.SimpleNamespace(
            as_numpy=lambda: request[name]
        ),
    )
    backend.TritonError.INVALID_ARG = 3
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend)
    spec = importlib.util.spec_from_file_location("served_postprocessing", MODEL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "__file__", str(tmp_path / "model.py"))
    (tmp_path / "tokenizer.json").symlink_to(TINY)
    model = module.TritonPythonModel()
    model.initialize({})

    def run(*requests):
        return model.execute(
            [
                {
                    "TOKENS_BATCH": np.array(tokens, np.int32),
                    "SEQUENCE_LENGTH": np.array(lengths, np.int32),
                }
                for tokens, lengths in requests
            ]
        )

    return run


@pytest.mark.parametrize(
    ("tokens", "lengths", "said"),
    [
        ([[[1, 2]]], [[3]], "SEQUENCE_LENGTH must hold values from 0 to 2"),
        ([[[1, 2]]], [[-1]], "SEQUENCE_LENGTH must hold values from 0 to 2"),
        ([[[1, 2]]], [[1, 1]], "SEQUENCE_LENGTH holds 2 values for 1 sequences"),
        ([[[1, -2]]], [[2]], "TOKENS_BATCH holds a negative token"),
        (np.ones((1, 1, 300_000)), [[1]], "TOKENS_BATCH holds 300000 tokens; at most 262144"),
    ],
)
def test_a_wrong_request_is_refused_and_its_neighbours_are_answered(execute, tokens, lengths, said):
    right = ([[[40, 41, 42]]], [[3]])
    before, refused, after = execute(right, (tokens, lengths), right)
    assert said in refused
    assert before == after == execute(right)[0]


def test_padding_is_no_part_of_the_text_whatever_it_is(execute):
    assert execute(([[[40, -1]]], [[1]])) == execute(([[[40]]], [[1]]))
