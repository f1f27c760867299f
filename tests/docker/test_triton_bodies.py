"""Which JSON bodies a model's inputs can take."""

import importlib.util
import json
import random
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
    inputs = [bodies.ModelTensor(name, datatype) for name, datatype in TYPES.items()]
    return lambda body: bodies.check_generate(bodies.parse_object(body), inputs)


@pytest.mark.parametrize(
    "body",
    [
        b'{"text": "a", "count": -5, "seed": 18446744073709551615, "share": 1, "flag": true}',
        b'{"text": ["a", "b"], "share": [0.5, 1e-3], "count": []}',
        b'{"unknown": {"any": [null]}}',
        '{"text": "é日本\\u00e9\\ud83d\\ude00"}'.encode(),
        b'{"text": "' + b"[{,:" * 100_000 + b'"}',
        b'{"text": "' + b'\\"[' * 100_000 + b'"}',
        b'{"unknown": ' * 31 + b"{}" + b"}" * 31,
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
        (b'{"share": 1e400}', "the body holds the number 1e400, too large"),
        (b'{"share": 1e39}', "share is 1e+39, which is beyond FP32"),
        (b'{"share": ' + b"1" * 400 + b"}", "an integer of 400 digits"),
        (b'{"share": 1.' + b"1" * 500 + b"}", "too large"),
        (b'{"unknown": ' + b"9" * 5000 + b"}", "an integer of 5000 digits"),
        (b'{"unknown": 1e400}', "too large"),
        (b'{"share": NaN}', "NaN is no JSON number"),
        (b'{"flag": 1}', "flag must be true or false, not 1"),
        (b'{"text": "a\xff"}', "not valid UTF-8 (byte 11)"),
        (b"", "the body is not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"a": ' + b"[" * 100_000, "nested more than 32 deep"),
        (b'{"a": ' * 33 + b"1" + b"}" * 33, "nested more than 32 deep"),
        (b'{"a": [' + b"[]," * 200_000 + b"1]}", "too many values"),
        (b'{"a": [' + b'"",' * 500_000 + b'"" ]}', "too many values"),
        (b'{"text": [["a"]]}', "text must be one value or a flat list"),
        (b'{"id": 5}', "id of the body must be text, not 5"),
        (b'{"parameters": []}', "parameters of the body must be an object"),
        (b'{"parameters": {"count": "5"}}', "count must be a whole number, not text"),
        (b'{"text": "\\ud800"}', "half of a character"),
        (b'{"\\udc00": 1}', "half of a character"),
        (b'{"text": "a", "text": 5}', "a field twice"),
        (b'{"text\\u0000": 5}', "a NUL in its name"),
        (json.dumps({f"f{n}": 1 for n in range(257)}).encode(), "more than 256 fields"),
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
        ([{"name": 5, "datatype": "INT32", "shape": [1]}], "name of an input must be text"),
        ([{"name": "n", "datatype": {}, "shape": [1]}], "datatype of an input must be text"),
        ([{"name": "n", "datatype": "INT32", "shape": 1}], "shape of an input must be a list"),
        ([{"name": "n", "datatype": "INT32", "shape": [-1]}], "integers from 0 on"),
        ([{"name": "n", "datatype": "INT32", "shape": ["1"]}], "integers from 0 on"),
        ([{"name": "n", "datatype": "INT32", "shape": [2**62, 4]}], "more than 16777216"),
        ([{"name": "n", "datatype": "BYTES", "shape": [1, 200_000]}], "200000 texts"),
        ([{"name": "n", "datatype": "INT32"}], "an input has no shape"),
        (
            [{"name": "n", "datatype": "INT32", "shape": [1], "parameters": {"a": []}}],
            "the parameter a must be text, a number, true or false",
        ),
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


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ({"id": 5}, "id of the body must be text"),
        ({"parameters": []}, "parameters of the body must be an object"),
        ({"parameters": {"timeout": -1}}, "the parameter timeout is -1"),
        ({"parameters": {"priority": "x"}}, "the parameter priority must be a whole number"),
        ({"parameters": {"sequence_start": 1}}, "sequence_start must be true or false"),
        ({"parameters": {"sequence_id": 1.5}}, "sequence_id must be a whole number"),
        ({"outputs": [{"name": "n", "parameters": {"classification": []}}]}, "classification"),
        ({"outputs": {}}, "outputs must be a list of objects"),
        ({"outputs": [{}]}, "an output has no name"),
        ({"outputs": [{"name": []}]}, "name of an output must be text"),
    ],
)
def test_the_other_fields_of_an_infer_body_have_their_types(bodies, field, said):
    with pytest.raises(bodies.InvalidBodyError) as refused:
        bodies.check_infer({"inputs": [], **field})
    assert said in str(refused.value)


def test_the_json_before_raw_tensors_is_checked_alone(bodies):
    assert bodies.json_part(b'{"a": 1}\xff\xff', "8") == b'{"a": 1}'
    for wrong in ("-1", "x", "", "11", "9" * 30, "\u0661"):
        with pytest.raises(bodies.InvalidBodyError, match="Inference-Header-Content-Length"):
            bodies.json_part(b'{"a": 1}\xff\xff', wrong)


def test_a_body_is_parsed_or_refused_however_its_strings_are_written(bodies):
    """Against the plain definition: all values, and the deepest of them, as json.loads has them."""
    draw = random.Random(3)
    pieces = ["[", "]", "{", "}", ",", ":", '"', "\\", '\\"', "a", "1", " ", '"b"', '"c":']
    for _ in range(3000):
        text = '{"a":' + "".join(draw.choices(pieces, k=draw.randint(1, 9))) + "}"
        try:
            expected = json.loads(text)
        except ValueError:
            expected = None
        try:
            found = bodies.parse_object(text.encode())
        except bodies.InvalidBodyError as error:
            assert expected is None or "twice" in str(error)
        else:
            assert found == expected
