"""Runs one task, a JSON file, in the environment with NVIDIA's requirements.

    python inside.py TASK RESULT

Each task is a new process, since NVIDIA's modules keep state. The result is JSON too.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import runpy
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import stand_ins  # type: ignore[import-not-found]

Json = dict[str, Any]


def parse(task: Json) -> Any:
    """Parses command lines with NVIDIA's own parsers: the values, or the error, of each."""
    return [_parsed(task["root"], line) for line in task["lines"]]


def _parsed(root: str, line: Json) -> Json:
    parsers: Mapping[str, Callable[[str, Sequence[str]], Any]] = {
        "convert": _convert_parser,
        "quantize": _quantize_parser,
        "build": _build_parser,
    }
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            values = parsers[line["phase"]](line["script"], line["arguments"])
    except SystemExit:
        return {"error": said.getvalue().strip().splitlines()[-1]}
    return {"values": {name: str(value) for name, value in vars(values).items()}}


@contextlib.contextmanager
def _called_with(program: str, arguments: Sequence[str]) -> Iterator[None]:
    before = sys.argv
    sys.argv = [program, *arguments]
    try:
        yield
    finally:
        sys.argv = before


def _convert_parser(script: str, arguments: Sequence[str]) -> Any:
    module = runpy.run_path(script, run_name="converter")
    with _called_with(script, arguments):
        return module["parse_arguments"]()


def _build_parser(_: str, arguments: Sequence[str]) -> Any:
    return import_module("tensorrt_llm.commands.build").parse_arguments().parse_args(arguments)


def _quantize_parser(script: str, arguments: Sequence[str]) -> Any:
    """Replaces the function that the script calls with its values."""
    quantization: Any = import_module("tensorrt_llm.quantization")
    taken: Json = {}
    quantization.quantize_and_export = lambda **values: taken.update(values)
    with _called_with(script, arguments):
        runpy.run_path(script, run_name="__main__")
    return types.SimpleNamespace(**taken)


def convert(task: Json) -> Any:
    """Runs NVIDIA's converter; what its config.json says, and a digest of every tensor."""
    torch, load_file = import_module("torch"), import_module("safetensors.torch").load_file
    output = Path(task["output"])
    try:
        with _called_with(task["script"], [*task["arguments"], "--output_dir", str(output)]):
            runpy.run_path(task["script"], run_name="__main__")
    except Exception as error:
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    tensors: Json = {}
    size = 0
    for path in sorted(output.glob("rank*.safetensors")):
        for name, tensor in sorted(load_file(path).items()):
            data = tensor.contiguous().view(torch.uint8).numpy().tobytes()
            size += len(data)
            digest = hashlib.sha256(data).hexdigest()
            tensors[f"{path.stem} {name}"] = [str(tensor.dtype), list(tensor.shape), digest]
    config = json.loads((output / "config.json").read_text())
    return {"config": config, "tensors": tensors, "bytes": size}


def calibrate(task: Json) -> Any:
    """The number of texts in a calibration dataset, or the loader's error."""
    loads = import_module("tensorrt_llm.quantization.quantize_by_modelopt").get_calib_dataloader
    tokenizer = import_module("transformers").AutoTokenizer.from_pretrained(task["tokenizer"])
    tokenizer.pad_token = tokenizer.eos_token
    try:
        loader = loads(task["dataset"], tokenizer, calib_size=task["size"], block_size=64)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    return {"texts": len(loader.dataset)}


class _Tensor:
    """A tensor as Triton's Python backend hands it over."""

    def __init__(self, name: str, values: Any) -> None:
        self._name, self._values = name, values

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> Any:
        return self._values


class _Request:
    """A request as Triton's Python backend hands it over."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self._tensors = {name: _Tensor(name, values) for name, values in tensors.items()}

    def parameters(self) -> str:
        return "{}"

    def inputs(self) -> list[_Tensor]:
        return list(self._tensors.values())

    def tensor(self, name: str) -> _Tensor | None:
        return self._tensors.get(name)


def _triton_module() -> Any:
    import numpy as np

    module: Any = types.ModuleType("triton_python_backend_utils")
    module.Tensor = _Tensor
    module.get_input_tensor_by_name = lambda request, name: request.tensor(name)
    module.get_input_config_by_name = lambda config, name: {"data_type": _TYPES.get(name, "INT32")}
    module.get_output_config_by_name = module.get_input_config_by_name
    numpy_types = {"INT32": np.int32, "FP32": np.float32, "STRING": np.object_}
    module.triton_string_to_numpy = lambda name: numpy_types[name]
    module.InferenceResponse = lambda output_tensors=(), error=None: (
        error or {tensor.name(): tensor.as_numpy().tolist() for tensor in output_tensors}
    )
    module.TritonError = type("TritonError", (str,), {"INVALID_ARG": 3})
    return module


_TYPES = {"EMBEDDING_BIAS_WEIGHTS": "FP32", "EMBEDDING_BIAS_WORDS": "STRING", "OUTPUT": "STRING"}


def serve(task: Json) -> Any:
    """Runs a preprocessing or postprocessing model on requests; each answer's tensors."""
    import numpy as np

    sys.modules["triton_python_backend_utils"] = _triton_module()
    path = Path(task["model"])
    package = types.ModuleType("served")
    package.__path__ = [str(path.parent)]
    sys.modules["served"] = package
    model = import_module("served.model").TritonPythonModel()
    parameters = {name: {"string_value": value} for name, value in task["parameters"].items()}
    model.initialize({"model_config": json.dumps({"parameters": parameters})})

    def values(content: Any) -> Any:
        if isinstance(content[0][0], str):
            return np.array([[text.encode() for text in row] for row in content], np.object_)
        return np.array(content, np.int32)

    requests = [
        _Request({name: values(content) for name, content in request.items()})
        for request in task["requests"]
    ]
    return [
        {name: _plain(content) for name, content in answer.items()}
        for request in requests
        for answer in model.execute([request])
    ]


def _plain(content: Any) -> Any:
    if isinstance(content, list):
        return [_plain(each) for each in content]
    return content.decode() if isinstance(content, bytes) else content


def main() -> None:
    """Does the task and writes its result."""
    task_path, result_path = map(Path, sys.argv[1:3])
    task = json.loads(task_path.read_text())
    os.environ["TRT_LLM_NO_LIB_INIT"] = "1"
    stand_ins.install()
    sys.path.insert(0, task["root"])
    tasks = {"parse": parse, "convert": convert, "calibrate": calibrate, "serve": serve}
    try:
        result = {"result": tasks[task["task"]](task)}
    except Exception:
        result = {"failure": traceback.format_exc()}
    result_path.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
