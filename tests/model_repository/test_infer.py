"""`infer` of models that stream, as NVIDIA's own client and curl ask a real Triton for it."""

import gzip
import json
import zlib

import numpy as np
import pytest
import requests
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from tests.model_repository.contract import CLOUD

MODELS = ("ensemble", "tensorrt_llm_bls")
GOOD = {"text_input": CLOUD, "max_tokens": 4}


@pytest.fixture(scope="module")
def client(triton):
    with triton_http.InferenceServerClient(triton.removeprefix("http://")) as client:
        yield client


def tensor(name, datatype, values):
    made = triton_http.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values)
    return made


def inputs(*max_tokens, prompt=CLOUD):
    rows = len(max_tokens)
    return [
        tensor("text_input", "BYTES", np.array([[prompt.encode()]] * rows, np.object_)),
        tensor("max_tokens", "INT32", np.array(max_tokens, np.int32).reshape(rows, 1)),
        tensor("return_log_probs", "BOOL", np.full((rows, 1), True)),
    ]


def post(triton, path, body, **options):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    options = {"headers": {}, "timeout": 60, **options}
    # Without the coding that `requests` accepts by itself.
    options["headers"] = {"Accept-Encoding": None, **options["headers"]}
    return requests.post(f"{triton}/v2/models/{path}", data=data, **options)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("version", ["", "1"])
def test_a_batch_has_the_answers_of_its_rows(client, triton, model, version):
    result = client.infer(model, inputs(3, 5), model_version=version, request_id="7")
    alone = [
        post(triton, f"{model}/generate", {**GOOD, "max_tokens": most, "return_log_probs": True})
        for most in (3, 5)
    ]
    texts = [answer.json()["text_output"] for answer in alone]
    assert [text.decode() for text in result.as_numpy("text_output")] == texts
    cumulative = [[answer.json()["cum_log_probs"]] for answer in alone]
    assert result.as_numpy("cum_log_probs") == pytest.approx(np.array(cumulative), abs=1e-4)
    assert result.as_numpy("output_log_probs").shape[:2] == (2, 1)
    assert result.as_numpy("batch_index").tolist() == [[0], [1]]
    assert result.get_response()["id"] == "7"


def test_the_engines_model_is_asked_as_well(client):
    """As NVIDIA's end_to_end_test.py does over HTTP."""
    prepared = client.infer(
        "preprocessing",
        [
            tensor("QUERY", "BYTES", np.array([[CLOUD.encode()]], np.object_)),
            tensor("REQUEST_OUTPUT_LEN", "INT32", np.array([[4]], np.int32)),
        ],
    )
    values = {
        "input_ids": prepared.as_numpy("INPUT_ID"),
        "input_lengths": prepared.as_numpy("REQUEST_INPUT_LEN"),
        "request_output_len": prepared.as_numpy("REQUEST_OUTPUT_LEN"),
    }
    result = client.infer(
        "tensorrt_llm", [tensor(name, "INT32", each) for name, each in values.items()]
    )
    ids, (length,) = result.as_numpy("output_ids"), result.as_numpy("sequence_length").tolist()
    assert ids.shape[:2] == (1, 1)
    assert length == [ids.shape[2]]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("model", [*MODELS, "preprocessing"])
def test_tritonclients_compression_works_both_ways(client, model, coding):
    asked = inputs(4)[:2]
    if model == "preprocessing":
        asked = [
            tensor("QUERY", "BYTES", np.array([[CLOUD.encode()]], np.object_)),
            tensor("REQUEST_OUTPUT_LEN", "INT32", np.array([[4]], np.int32)),
        ]
    plain, packed = (
        client.infer(
            model, asked, request_compression_algorithm=each, response_compression_algorithm=each
        )
        for each in (None, coding)
    )
    assert packed.get_response() == plain.get_response()
    first = plain.get_response()["outputs"][0]["name"]
    assert packed.as_numpy(first).tolist() == plain.as_numpy(first).tolist()


PATHS = {
    "generate": ("ensemble/generate", GOOD),
    "infer": ("ensemble/infer", GOOD),
    "OpenAI's": (
        "../../v1/completions",
        {"model": "tensorrt_llm_bls", "prompt": CLOUD, "max_tokens": 4, "temperature": 0},
    ),
}
DECODERS = {None: bytes, "gzip": gzip.decompress, "deflate": zlib.decompress}
ENCODERS = {None: bytes, "gzip": gzip.compress, "deflate": zlib.compress}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("coding", DECODERS)
def test_answers_are_encoded_only_as_their_client_asks(triton, path, coding):
    path, body = PATHS[path]
    content = ENCODERS[coding](json.dumps(body).encode())
    headers = {"Content-Encoding": coding, "Accept-Encoding": coding} if coding else {}
    response = post(triton, path, content, headers=headers, stream=True)
    assert response.status_code == 200, response.text
    assert response.headers.get("Content-Encoding") == coding
    answer = json.loads(DECODERS[coding](response.raw.read()))
    text = answer.get("text_output") or answer["choices"][0]["text"]
    assert text.startswith("Cloud")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
def test_a_plain_body_that_says_it_is_encoded_is_400(triton, path, coding):
    path, body = PATHS[path]
    refused = post(triton, path, body, headers={"Content-Encoding": coding})
    assert (refused.status_code, "Content-Encoding" in refused.text) == (400, True)


@pytest.mark.parametrize(
    ("path", "headers", "has_outputs"),
    [
        ("ensemble/infer", {}, True),
        ("ensemble/versions/1/infer", {"model_name": "ensemble", "model_version": "1"}, True),
        ("tensorrt_llm_bls/versions/1/generate", {"model_name": "ensemble"}, True),
        ("tensorrt_llm_bls/versions/1/generate", {"model-name": "ensemble"}, True),
        ("tensorrt_llm_bls/versions/1/generate", {}, False),
    ],
    ids=["infer", "version", "header", "ADS", "plain"],
)
def test_a_generate_body_has_outputs_where_the_walkthrough_looks(
    triton, path, headers, has_outputs
):
    answer = post(triton, path, GOOD, headers=headers).json()
    assert answer["text_output"].startswith("Cloud")
    assert answer["model_version"] == "1"
    assert ("outputs" in answer) is has_outputs
    if has_outputs:
        first = answer["outputs"][0]
        assert (first["name"], first["data"]) == ("text_output", [answer["text_output"]])


def test_what_the_front_refuses_is_of_tritons_content_type(triton):
    for path, body in (("ensemble/generate", b"{"), ("ensemble/infer", {"inputs": [5]})):
        refused = post(triton, path, body)
        assert (refused.status_code, refused.headers["Content-Type"]) == (400, "application/json")
    ready = requests.get(f"{triton}/v2/health/ready", timeout=10)
    assert ready.headers["Content-Type"] == "text/plain"


def test_a_wrong_infer_is_refused_by_name(client):
    with pytest.raises(InferenceServerException, match=r"\[400\] unexpected output 'other'"):
        client.infer("ensemble", inputs(4), outputs=[triton_http.InferRequestedOutput("other")])
    with pytest.raises(InferenceServerException, match=r"\[400\] .*max_tokens is 0"):
        client.infer("ensemble", inputs(4, 0))
