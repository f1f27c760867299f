"""`infer` for models that stream: against the encoding of NVIDIA's own client (tritonclient)."""

import json

import numpy as np
import pytest
import tritonclient.http as http
from tritonclient.http import InferenceServerClient, InferResult

from tests.docker.front_support import front_module


@pytest.fixture(scope="module")
def infer():
    return front_module("infer")


@pytest.fixture(scope="module")
def model(infer):
    tensor = front_module("triton_bodies").ModelTensor
    return front_module("model_configs").ModelConfig(
        "ensemble",
        inputs=(
            tensor("text_input", "STRING", (1,)),
            tensor("max_tokens", "INT32", (1,)),
            tensor("seed", "UINT64", (1,)),
            tensor("top_p", "FP32", (1,)),
            tensor("stream", "BOOL", (1,)),
            tensor("stop_words", "STRING", (-1,)),
            tensor("stop_words_list", "INT32", (2, -1)),
        ),
        outputs=(
            tensor("cum_log_probs", "FP32", (-1,)),
            tensor("text_output", "STRING", (-1,)),
            tensor("output_log_probs", "FP32", (-1, -1)),
            tensor("batch_index", "INT32", (1,)),
            tensor("output_tokens", "STRING", (-1, -1)),
        ),
        max_batch_size=4,
        decoupled=True,
    )


@pytest.fixture(scope="module")
def read(infer, model):
    """Reads a body as the front does."""
    bodies = front_module("triton_bodies")

    def run(body, length=None):
        head = bodies.json_part(body, None if length is None else str(length))
        content = bodies.parse_object(head)
        bodies.check_infer(content)
        return infer.InferRequest.of(content, body[len(head) :], model)

    return run


def tensor(name, datatype, values, *, binary):
    array = np.array(values, {"BYTES": np.object_}.get(datatype) or _numpy(datatype))
    made = http.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def _numpy(datatype):
    return {"INT32": np.int32, "UINT64": np.uint64, "FP32": np.float32, "BOOL": np.bool_}[datatype]


@pytest.mark.parametrize("binary", [True, False], ids=["raw", "json"])
def test_each_row_of_a_batch_is_a_request_of_its_own(read, binary):
    body, length = InferenceServerClient.generate_request_body(
        [
            tensor("text_input", "BYTES", [["Grüße".encode()], [b""]], binary=binary),
            tensor("max_tokens", "INT32", [[5], [-7]], binary=binary),
            tensor("seed", "UINT64", [[2**64 - 1], [0]], binary=binary),
            tensor("top_p", "FP32", [[0.5], [1.0]], binary=binary),
            tensor("stream", "BOOL", [[False], [False]], binary=binary),
            tensor("stop_words", "BYTES", [[b"a", b"b"], [b"c", b""]], binary=binary),
            tensor("stop_words_list", "INT32", [[[1, 2, 3], [1, 3, -1]]] * 2, binary=binary),
        ],
        parameters={"note": "kept"},
    )
    common = {"note": "kept", "stream": [False], "stop_words_list": [1, 2, 3, 1, 3, -1]}
    first = {"text_input": ["Grüße"], "max_tokens": [5], "seed": [2**64 - 1], "top_p": [0.5]}
    second = {"text_input": [""], "max_tokens": [-7], "seed": [0], "top_p": [1.0]}
    assert list(read(body, length).rows) == [
        {**common, **first, "stop_words": ["a", "b"]},
        {**common, **second, "stop_words": ["c", ""]},
    ]


def text(**changes):
    whole = {"name": "text_input", "shape": [1, 1], "datatype": "BYTES", "data": ["x"], **changes}
    return {key: value for key, value in whole.items() if value is not None}


RAW = {"data": None, "parameters": {"binary_data_size": 5}}


@pytest.mark.parametrize(
    ("inputs", "raw", "said"),
    [
        ([text(name="other")], b"", "unexpected input 'other'"),
        ([text(), text()], b"", "text_input is given twice"),
        ([text(datatype="INT32", data=[1])], b"", "text_input is BYTES, not INT32"),
        ([text(shape=[1])], b"", r"has shape \[1\]; the model expects \[-1, 1\]"),
        ([text(shape=[1, 2], data=["x", "y"])], b"", r"has shape \[1, 2\]"),
        ([text(data=["x", "y"])], b"", "has 2 values, and its shape"),
        ([text(shape=[5, 1], data=["x"] * 5)], b"", "a batch of 5; the model takes 1 to 4"),
        ([text(shape=[0, 1], data=[])], b"", "a batch of 0"),
        ([text(data=None)], b"", "text_input has no data"),
        ([text(**RAW)], b"\1\0\0\0", "binary_data_size is more than the body has"),
        ([text(**RAW)], b"\1\0\0\0xy", "1 bytes behind its last tensor"),
        ([text(**RAW)], b"\2\0\0\0x", "text_input is not made of BYTES values"),
        ([text(**RAW)], b"\1\0\0\0\xff", "text_input is not valid UTF-8"),
        ([text(**{**RAW, "data": ["x"]})], b"\1\0\0\0x", "both data and binary_data_size"),
        ([text(shape=[2, 1], data=["x", "y"]), text(name="top_p", datatype="FP32", data=[1])], b"",
         "batches of different sizes"),
        ([text(name="top_p", datatype="FP32", data=None, parameters={"binary_data_size": 4})],
         np.float32("nan").tobytes(), "top_p is nan: give a finite number"),
    ],
    ids=range(16),
)  # fmt: skip
def test_tensors_that_the_model_cannot_take_are_named(infer, read, inputs, raw, said):
    head = json.dumps({"inputs": inputs}).encode()
    with pytest.raises(front_module("triton_bodies").InvalidBodyError, match=said):
        read(head + raw, len(head))


def test_what_a_request_wants_of_its_outputs_is_read(read, infer):
    def wanted(**content):
        request = read(json.dumps({"inputs": [text()], **content}).encode())
        return [(each.tensor.name, each.binary) for each in request.outputs]

    every = ["text_output", "cum_log_probs", "output_log_probs", "batch_index", "output_tokens"]
    assert wanted() == [(name, False) for name in every]
    assert wanted(parameters={"binary_data_output": True}) == [(name, True) for name in every]
    some = [{"name": "cum_log_probs", "parameters": {"binary_data": False}}]
    assert wanted(outputs=some, parameters={"binary_data_output": True}) == [
        ("cum_log_probs", False)
    ]
    for parameters, name in (({"classification": 2}, "text_output"), ({}, "other")):
        with pytest.raises(front_module("triton_bodies").InvalidBodyError):
            wanted(outputs=[{"name": name, "parameters": parameters}])


@pytest.mark.parametrize("binary", [True, False], ids=["raw", "json"])
def test_tritonclient_reads_the_answer(infer, model, binary):
    """Triton gives each tensor flat, and one of a single element as that element."""
    answers = [
        {"text_output": "é", "cum_log_probs": -0.5, "output_log_probs": -0.5, "batch_index": 0,
         "output_tokens": "a"},
        {"text_output": "ab", "cum_log_probs": -1.5, "output_log_probs": [-1.0, -0.5],
         "batch_index": 0, "output_tokens": ["b", "c"]},
    ]  # fmt: skip
    outputs = [infer.WantedOutput(each.tensor, binary) for each in infer.all_outputs(model)]
    tensors, raw = infer.answer_tensors(answers, outputs, batched=True)
    head = infer.answer_body({"model_name": "ensemble", "model_version": "1"}, tensors, "7")
    result = InferResult.from_response_body(head + raw, header_length=len(head))
    assert list(json.loads(head)) == ["id", "model_name", "model_version", "outputs"]
    texts = result.as_numpy("text_output").tolist()
    assert [each if isinstance(each, str) else each.decode() for each in texts] == ["é", "ab"]
    assert result.as_numpy("cum_log_probs").tolist() == [[-0.5], [-1.5]]
    assert result.as_numpy("output_log_probs").tolist() == [[[-0.5, 0.0]], [[-1.0, -0.5]]]
    assert result.as_numpy("batch_index").tolist() == [[0], [1]]
    assert result.as_numpy("output_tokens").shape == (2, 1, 2)


def test_several_sequences_of_one_request_have_a_dimension_of_their_own(infer, model):
    beams = {"text_output": ["a", "b"], "output_log_probs": [-1.0, -2.0, -3.0, -4.0]}
    tensors, _ = infer.answer_tensors([beams], infer.all_outputs(model), batched=True)
    assert {each["name"]: each["shape"] for each in tensors} == {
        "text_output": [2],
        "output_log_probs": [1, 2, 2],
    }


@pytest.mark.parametrize(
    "fields", [{"stream": True}, {"streaming": [True]}, {"stream": [False, True]}]
)
def test_a_stream_is_refused_where_an_answer_comes_in_one_piece(infer, fields):
    with pytest.raises(front_module("triton_bodies").InvalidBodyError, match="generate_stream"):
        infer.check_one_answer(fields, "generate", "ensemble")
    infer.check_one_answer({"stream": False, "text_input": "True"}, "generate", "ensemble")
