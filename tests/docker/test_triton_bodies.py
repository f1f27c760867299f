"""Which JSON bodies a model's inputs can take."""

import importlib.util
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "docker/server/triton_bodies.py"


@pytest.fixture(scope="module")
def bodies():
    spec = importlib.util.spec_from_file_location("served_bodies", SOURCE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


TYPES = {
    "text": "STRING",
    "count": "INT32",
    "seed": "UINT64",
    "share": "FP32",
    "flag": "BOOL",
}


@pytest.fixture
def check(bodies):
    inputs = [bodies.ModelInput(name, datatype) for name, datatype in TYPES.items()]
    return lambda body: bodies.check_generate(bodies.parse_object(body), inputs)


@pytest.mark.parametrize(
    "body",
    [
        b'{"text": "a", "count": -5, "seed": 18446744073709551615, "share": 1, "flag": true}',
        b'{"text": ["a", "b"], "share": [0.5, 1e-3], "count": []}',
        b'{"unknown": {"any": [null]}}',
        '{"text": "é日本\\u00e9"}'.encode(),
    ],
)
def test_a_body_of_the_right_types_passes(check, body):
    check(body)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"count": "5"}', "count must be a whole number, not text"),
        (b'{"count": 5.5}', "count must be a whole number, not 5.5"),
        (b'{"count": true}', "count must be a whole number, not true"),
        (b'{"count": null}', "count must be a whole number, not null"),
        (b'{"count": 4294967301}', "count is 4294967301; it must be from -2147483648"),
        (b'{"seed": -1}', "seed is -1; it must be from 0 to 18446744073709551615"),
        (b'{"text": 5}', "text must be text, not 5"),
        (b'{"text": ["a", 5]}', "text must be text, not 5"),
        (b'{"text": {"a": 1}}', "text must be text, not an object"),
        (b'{"share": "x"}', "share must be a number, not text"),
        (b'{"share": 1e400}', "share must be a number, not inf"),
        (b'{"share": NaN}', "NaN is no JSON number"),
        (b'{"flag": 1}', "flag must be true or false, not 1"),
        (b'{"text": "a\xff"}', "not valid UTF-8 (byte 11)"),
        (b"", "the body is not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"a": ' + b"[" * 100_000, "the body is not JSON"),
    ],
)
def test_a_body_of_a_wrong_type_is_refused_by_field(bodies, check, body, said):
    with pytest.raises(bodies.InvalidBodyError) as refused:
        check(body)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([{"name": "n", "datatype": "INT32", "shape": [1], "data": ["x"]}], "n must be a whole"),
        ([{"name": "n", "datatype": "BYTES", "shape": [1], "data": [[1]]}], "n must be text"),
        ("x", "inputs must be a list"),
        ([5], "inputs must be a list"),
    ],
)
def test_the_data_of_an_infer_body_must_be_of_its_datatype(bodies, inputs, said):
    with pytest.raises(bodies.InvalidBodyError) as refused:
        bodies.check_infer({"inputs": inputs})
    assert said in str(refused.value)


def test_a_right_infer_body_passes(bodies):
    bodies.check_infer(
        {"inputs": [{"name": "n", "datatype": "INT32", "shape": [1, 2], "data": [[1, 2]]}]}
    )
