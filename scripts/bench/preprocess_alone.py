"""Prints how long each way of encoding the same prompts takes, in seconds, as JSON.

Run by the benchmark as `python -m scripts.bench.preprocess_alone CHECKPOINT`. It runs the model of
model_repository as Triton would, with a stand-in for Triton's own module, so that nothing but
preprocessing is measured: the tensors of every request are read, and those of every answer made.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from scripts.bench.texts import CONCURRENT, PREPROCESSING, PROMPT_TOKENS, STOP_WORDS, prompts

_MODEL = Path(__file__).parents[2] / "model_repository" / "preprocessing"


class _Request:
    """A request in place of the one that Triton's Python backend hands over."""

    def __init__(self, text: str) -> None:
        self._tensors = {
            "QUERY": np.array([[text.encode()]], np.object_),
            "REQUEST_OUTPUT_LEN": np.array([[16]], np.int32),
            "STOP_WORDS_DICT": np.array([[word.encode() for word in STOP_WORDS]], np.object_),
        }

    def parameters(self) -> str:
        return "{}"

    def tensor(self, name: str) -> Any:
        values = self._tensors.get(name)
        return None if values is None else SimpleNamespace(as_numpy=lambda: values)


def main() -> None:
    """Measures each contestant once, after a warm-up of its own."""
    checkpoint = Path(sys.argv[1])
    texts, others = prompts(checkpoint, seed=0), prompts(checkpoint, seed=1)
    contestants: dict[str, Callable[[Sequence[str]], object]] = {
        "encode_batch": _bare(checkpoint),
        "NVIDIA's approach": _plain_reading_of_nvidia(checkpoint),
    }
    with tempfile.TemporaryDirectory() as directory:
        contestants["preprocessing"] = _served(checkpoint, Path(directory))
        print(json.dumps({name: _seconds(run, others, texts) for name, run in contestants.items()}))


def _seconds(
    run: Callable[[Sequence[str]], object], others: Sequence[str], texts: Sequence[str]
) -> float:
    run(others)
    started = time.perf_counter()
    run(texts)
    return time.perf_counter() - started


def _bare(checkpoint: Path) -> Callable[[Sequence[str]], object]:
    """The tokenizer alone: one call, and the ids taken."""
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    return lambda texts: [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]


def _served(checkpoint: Path, directory: Path) -> Callable[[Sequence[str]], object]:
    """The served model, given all requests together."""
    sys.modules["triton_python_backend_utils"] = _backend_utils()
    shutil.copytree(_MODEL / "1", directory / "1")
    shutil.copyfile(checkpoint / "tokenizer.json", directory / "1" / "tokenizer.json")
    sys.path.insert(0, str(directory))  # Triton too imports the directory as a package
    model = importlib.import_module("1.model").TritonPythonModel()
    values = {name: {"string_value": str(value)} for name, value in PREPROCESSING.items()}
    model.initialize({"model_config": json.dumps({"parameters": values})})

    def run(texts: Sequence[str]) -> None:
        answers = model.execute([_Request(text) for text in texts])
        lengths = [dict(answer)["INPUT_ID"].size for answer in answers]
        assert lengths == [PROMPT_TOKENS] * CONCURRENT, lengths

    return run


def _backend_utils() -> Any:
    def refuse(reason: str, code: int) -> None:
        raise AssertionError(reason)

    refuse.INVALID_ARG = 3  # type: ignore[attr-defined]
    return SimpleNamespace(
        Tensor=lambda name, values: (name, values),
        InferenceResponse=lambda tensors: tensors,
        TritonError=refuse,
        get_input_tensor_by_name=lambda request, name: request.tensor(name),
    )


def _plain_reading_of_nvidia(checkpoint: Path) -> Callable[[Sequence[str]], object]:
    """What NVIDIA's preprocessing does, by a plain reading of it; none of its code.

    A request at a time and a string at a time, with transformers' tokenizer: the prompt, each stop
    word, and the end and pad tokens, into padded arrays (triton_backend/all_models/
    inflight_batcher_llm/preprocessing/1/model.py, TensorRT-LLM 0.19).
    """
    tokenizer = AutoTokenizer.from_pretrained(str(checkpoint))

    def request(text: str) -> list[NDArray[np.int32]]:
        ids = np.array(tokenizer.encode(text), np.int32)
        words = [tokenizer.encode(word, add_special_tokens=False) for word in STOP_WORDS]
        flat = np.array([token for word in words for token in word], np.int32)
        ends = np.cumsum([len(word) for word in words], dtype=np.int32)
        padded = np.pad(ends, (0, len(flat) - len(ends)), constant_values=-1)
        return [ids[np.newaxis], np.array([[len(ids)]], np.int32), np.array([[flat, padded]])]

    return lambda texts: [request(text) for text in texts]


if __name__ == "__main__":
    main()
