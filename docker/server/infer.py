"""`infer` for models whose answers can be streams, which Triton itself refuses.

A request of tensors becomes one `generate` for each row of its batch, and their answers become
tensors again: in JSON, or in bytes with the encoding of NVIDIA's own client (tritonclient.utils).
The protocol is KServe's with Triton's extension for binary tensors
(triton-inference-server/server, docs/protocol/extension_binary_data.md).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_configs import ModelConfig
from triton_bodies import MAX_VALUES, InvalidBodyError, ModelTensor

BINARY_HEADER = "Inference-Header-Content-Length"
"""With this header a body is JSON followed by raw tensors."""
# The output that clients look for first. Like NVIDIA's it has no dimension for the batch.
TEXT_OUTPUT = "text_output"
_BATCH_INDEX = "batch_index"
_STREAMS = ("stream", "streaming")
# What Triton reads itself of a request's parameters; a `generate` gets the others.
_OF_TRITON = frozenset({"binary_data_output", "priority", "timeout"})
_PADDING: Mapping[str, Any] = {"BYTES": ""}


@dataclass(frozen=True, slots=True)
class WantedOutput:
    """An output, and whether its values are wanted as bytes behind the JSON."""

    tensor: ModelTensor
    binary: bool = False


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A request of tensors.

    Attributes:
        rows: the body of a `generate` for each row of the batch.
        outputs: what the answer holds.
    """

    rows: tuple[dict[str, Any], ...]
    outputs: tuple[WantedOutput, ...]

    @classmethod
    def of(cls, content: Mapping[str, Any], raw: bytes, model: ModelConfig) -> InferRequest:
        """Reads a body whose types have been checked.

        Args:
            content: its JSON.
            raw: the tensors behind it.
            model: whose tensors they are.

        Raises:
            InvalidBodyError: the model has no such tensor, or it cannot have these values.
        """
        columns: dict[str, list[list[Any]]] = {}
        reader = _RawReader(raw)
        for given in content["inputs"]:
            tensor = _named(given["name"], model.inputs, model.name, "input")
            if tensor.name in columns:
                raise InvalidBodyError(f"{tensor.name} is given twice")
            columns[tensor.name] = _rows(given, tensor, reader, model)
        reader.finish()
        if len(sizes := {len(column) for column in columns.values()}) > 1:
            raise InvalidBodyError(f"the inputs have batches of different sizes: {sorted(sizes)}")
        parameters = content.get("parameters", {})
        common = {key: value for key, value in parameters.items() if key not in _OF_TRITON}
        rows = [
            {**common, **{name: column[row] for name, column in columns.items()}}
            for row in range(max(sizes, default=1))
        ]
        return cls(tuple(rows), _outputs(content, model))


def check_one_answer(fields: Mapping[str, Any], verb: str, model: str) -> None:
    """Refuses a request for a stream where the answer comes in one piece.

    Raises:
        InvalidBodyError: it requests a stream; with the path to take.
    """
    for name in _STREAMS:
        value = fields.get(name)
        if value is True or (isinstance(value, list) and True in value):
            raise InvalidBodyError(
                f"{name} is true, and {verb} answers in one piece: for a stream take "
                f"/v2/models/{model}/generate_stream (through OCI, below "
                "/predictWithResponseStream)",
                name,
            )


def all_outputs(model: ModelConfig) -> tuple[WantedOutput, ...]:
    """Every output of a model in JSON, its text first."""
    ordered = sorted(model.outputs, key=lambda each: each.name != TEXT_OUTPUT)
    return tuple(WantedOutput(each) for each in ordered)


def answer_tensors(
    answers: Sequence[Mapping[str, Any]], outputs: Sequence[WantedOutput], *, batched: bool
) -> tuple[list[dict[str, Any]], bytes]:
    """The outputs of an `infer` answer.

    Args:
        answers: those of `generate`, one a row.
        outputs: which to give; those that no answer has are left out.
        batched: whether the model's tensors have a dimension for the batch.

    Returns:
        What the JSON says of each, and the bytes behind the JSON.
    """
    described, raw = [], []
    for wanted in outputs:
        name, datatype = wanted.tensor.name, wanted.tensor.wire_type
        rows = [_flat(answer[name]) for answer in answers if name in answer]
        if name == _BATCH_INDEX:  # each row was a batch of its own
            rows = [[index] * len(row) for index, row in enumerate(rows)]
        if not rows or len(rows) < len(answers):
            continue
        shapes = [
            _shape(wanted.tensor, len(row), answer)
            for row, answer in zip(rows, answers, strict=True)
        ]
        shape = [max(lengths) for lengths in zip(*shapes, strict=True)]
        values = [
            value
            for row, own in zip(rows, shapes, strict=True)
            for value in _padded(row, own, shape, _PADDING.get(datatype, 0))
        ]
        if name == TEXT_OUTPUT:
            shape = [len(values)]
        elif batched:
            shape = [len(rows), *shape]
        tensor: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
        if wanted.binary:
            data = _to_bytes(values, datatype)
            raw.append(data)
            described.append({**tensor, "parameters": {"binary_data_size": len(data)}})
        else:
            described.append({**tensor, "data": values})
    return described, b"".join(raw)


def answer_body(
    answer: Mapping[str, Any], outputs: Sequence[Mapping[str, Any]], client_id: str | None
) -> bytes:
    """The JSON of an `infer` answer, its fields in Triton's order.

    Args:
        answer: of `generate`, which names model and version.
        outputs: what `answer_tensors` gives.
        client_id: what the client calls its request.
    """
    named = {key: answer[key] for key in ("model_name", "model_version") if key in answer}
    identified = {"id": client_id} if client_id else {}
    content = {**identified, **named, "outputs": outputs}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def with_outputs(answer: bytes, model: ModelConfig) -> bytes:
    """An answer of `generate` that has the outputs as tensors besides, as `infer` gives them."""
    fields = json.loads(answer)
    tensors, _ = answer_tensors([fields], all_outputs(model), batched=bool(model.max_batch_size))
    content = {**fields, "outputs": tensors}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _named(name: str, tensors: Sequence[ModelTensor], model: str, kind: str) -> ModelTensor:
    for each in tensors:
        if each.name == name:
            return each
    raise InvalidBodyError(f"unexpected {kind} {name[:64]!r}: the model {model} has none so named")


def _outputs(content: Mapping[str, Any], model: ModelConfig) -> tuple[WantedOutput, ...]:
    binary = content.get("parameters", {}).get("binary_data_output", False)
    if not content.get("outputs"):
        return tuple(WantedOutput(each.tensor, binary) for each in all_outputs(model))
    wanted = []
    for given in content["outputs"]:
        parameters = given.get("parameters", {})
        if parameters.get("classification"):
            raise InvalidBodyError("classification is for models with labels, which this is not")
        tensor = _named(given["name"], model.outputs, model.name, "output")
        wanted.append(WantedOutput(tensor, parameters.get("binary_data", binary)))
    return tuple(wanted)


# --- inputs -----------------------------------------------------------------------------------


class _RawReader:
    """The raw tensors of a body, which lie behind each other in the order of its inputs."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._read = 0

    def take(self, name: str, size: int) -> bytes:
        """The next tensor."""
        taken = self._raw[self._read : self._read + size]
        self._read += size
        if len(taken) < size:
            raise InvalidBodyError(f"{name}: binary_data_size is more than the body has")
        return taken

    def finish(self) -> None:
        """Refuses what belongs to no tensor."""
        if self._read < len(self._raw):
            rest = len(self._raw) - self._read
            raise InvalidBodyError(f"the body has {rest} bytes behind its last tensor")


def _rows(
    given: Mapping[str, Any], tensor: ModelTensor, reader: _RawReader, model: ModelConfig
) -> list[list[Any]]:
    """The values of an input, flat, for each row of the batch."""
    name, shape = tensor.name, given["shape"]
    if given["datatype"] != tensor.wire_type:
        raise InvalidBodyError(f"{name} is {tensor.wire_type}, not {given['datatype'][:64]}")
    dims = (-1, *tensor.dims) if model.max_batch_size else tensor.dims
    if len(shape) != len(dims) or any(
        wanted not in (-1, length) for length, wanted in zip(shape, dims, strict=True)
    ):
        raise InvalidBodyError(f"{name} has shape {shape}; the model expects {list(dims)}")
    size = math.prod(shape)
    if size > MAX_VALUES:
        raise InvalidBodyError(f"{name} has {size} values; at most {MAX_VALUES} are possible")
    rows = shape[0] if model.max_batch_size else 1
    if not 1 <= rows <= max(1, model.max_batch_size):
        raise InvalidBodyError(
            f"{name} has a batch of {rows}; the model takes 1 to {model.max_batch_size}"
        )
    values = _values(given, tensor, reader)
    if len(values) != size:
        raise InvalidBodyError(f"{name} has {len(values)} values, and its shape {shape} has {size}")
    length = size // rows
    return [values[start : start + length] for start in range(0, size, length or 1)] or [[]] * rows


def _values(given: Mapping[str, Any], tensor: ModelTensor, reader: _RawReader) -> list[Any]:
    size = given.get("parameters", {}).get("binary_data_size")
    if size is not None:
        if "data" in given:
            raise InvalidBodyError(f"{tensor.name} has both data and binary_data_size")
        return _from_bytes(reader.take(tensor.name, size), tensor)
    if "data" not in given:
        raise InvalidBodyError(f"{tensor.name} has no data")
    return list(_flat(given["data"]))


def _from_bytes(data: bytes, tensor: ModelTensor) -> list[Any]:
    # Imported here: a start need not wait for NumPy, which only raw tensors need.
    import numpy as np
    from tritonclient.utils import deserialize_bytes_tensor, triton_to_np_dtype

    name = tensor.name
    try:
        if tensor.wire_type == "BYTES":
            return [text.decode("utf-8") for text in deserialize_bytes_tensor(data)]
        values = np.frombuffer(data, triton_to_np_dtype(tensor.wire_type)).tolist()
    except UnicodeDecodeError as error:
        raise InvalidBodyError(f"{name} is not valid UTF-8 (byte {error.start})") from None
    except (struct.error, ValueError):
        raise InvalidBodyError(f"{name} is not made of {tensor.wire_type} values") from None
    if odd := [value for value in values if not math.isfinite(value)]:
        raise InvalidBodyError(f"{name} is {odd[0]}: give a finite number")
    return list(values)


# --- outputs ----------------------------------------------------------------------------------


def _flat(value: Any) -> list[Any]:
    """Nested lists, or the one value that Triton gives without a list, as one list."""
    if not isinstance(value, list):
        return [value]
    return [inner for each in value for inner in _flat(each)]


def _shape(tensor: ModelTensor, size: int, answer: Mapping[str, Any]) -> list[int]:
    """The dimensions of an output of `generate`, which comes flat.

    The first of two unknown ones is that of the answers (beams): there are as many as texts or
    sequence lengths.
    """
    fixed = math.prod(length for length in tensor.dims if length != -1)
    unknown = [index for index, length in enumerate(tensor.dims) if length == -1]
    shape = list(tensor.dims)
    left = size // max(1, fixed)
    for index in unknown:
        is_last = index == unknown[-1]
        sequences = len(_flat(answer.get("sequence_length", answer.get(TEXT_OUTPUT))))
        shape[index] = left if is_last else max(1, min(sequences, left))
        left //= max(1, shape[index])
    return shape


def _padded(
    values: list[Any], own: Sequence[int], shape: Sequence[int], padding: Any
) -> Iterator[Any]:
    """The values of a tensor in a larger one of as many dimensions."""
    if not own:
        yield from values
        return
    length = len(values) // max(1, own[0])
    for index in range(shape[0]):
        part = values[index * length : (index + 1) * length] if index < own[0] else []
        if index < own[0]:
            yield from _padded(part, own[1:], shape[1:], padding)
        else:
            yield from [padding] * math.prod(shape[1:])


def _to_bytes(values: list[Any], datatype: str) -> bytes:
    import numpy as np  # as in `_from_bytes`
    from tritonclient.utils import serialize_byte_tensor, triton_to_np_dtype

    if not values:
        return b""
    if datatype == "BYTES":
        texts = np.array([str(value).encode("utf-8") for value in values], np.object_)
        return bytes(serialize_byte_tensor(texts).item())
    return bytes(np.array(values, triton_to_np_dtype(datatype)).tobytes())
