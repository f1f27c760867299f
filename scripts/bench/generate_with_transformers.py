"""Prints the tokens a second of transformers on all cores for each batch size.

Run by the benchmark in the peer's virtual environment, from the project's root, as
`python -m scripts.bench.generate_with_transformers CHECKPOINT DTYPE`.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from scripts.bench.prompts import PROMPT_TOKENS, speeds


def _generate(model: Any, prompts: list[list[int]], new_tokens: int) -> None:
    input_ids = torch.tensor(prompts)
    answers = model.generate(
        input_ids,
        attention_mask=torch.ones_like(input_ids),
        max_new_tokens=new_tokens,
        do_sample=False,
    )
    if answers.shape[1] != PROMPT_TOKENS + new_tokens:
        raise RuntimeError(f"an answer has not {new_tokens} tokens")


def main(directory: str, dtype: str) -> None:
    """Measures the checkpoint in this directory, its weights cast to `dtype`."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=getattr(torch, dtype))
    model.generation_config.eos_token_id = None  # every answer has its full length
    model.generation_config.pad_token_id = 0
    print(json.dumps(speeds(partial(_generate, model))))


if __name__ == "__main__":
    main(*sys.argv[1:])
