"""The CPU engine of model_repository in this process, for benchmarks that leave Triton out."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

# Triton too imports a model's directory as a package named by its version.
sys.path.insert(0, str(Path(__file__).parents[2] / "model_repository" / "tensorrt_llm"))
served = importlib.import_module("1.engine")
request = importlib.import_module("1.request")


def generation_request(prompt: list[int], new_tokens: int, *, streaming: bool) -> Any:
    """A greedy request that nothing but its length ends.

    Args:
        prompt: its tokens.
        new_tokens: how many to generate.
        streaming: whether each token is sent as it comes, whatever its text; otherwise all
            together.
    """
    return request.GenerationRequest(
        input_ids=prompt,
        max_tokens=new_tokens,
        end_ids=frozenset(),
        stop_words=(),
        bad_words=(),
        sampling=request.Sampling(),
        return_log_probs=False,
        exclude_input=True,
        streaming=streaming,
        all_tokens=streaming,
    )
