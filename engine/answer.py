#!/usr/bin/env python3
"""Asks a finished engine, or transformers, for greedy answers inside NVIDIA's image.

    answer.py engine QUESTION       the engine, by tensorrt_llm's runner; a process for each rank
    answer.py reference QUESTION    the checkpoint it was built from, by transformers

QUESTION is a JSON file: {"prompts": token ids of each, "new_tokens", "end_id", "pad_id", "engine",
"checkpoint", "dtype"}. The token ids of the answers are written beside it, to engine_answers.json
and reference_answers.json as {"answers"}; where transformers cannot answer, which is no fault of
the engine, the second holds {"problem"}. It needs what NVIDIA's image holds.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

_LONGEST_PROBLEM = 300


def main(arguments: list[str] | None = None) -> int:
    """Asks; gives the exit status."""
    parser = argparse.ArgumentParser(
        prog="answer.py", description="Asks an engine, or transformers, for greedy answers."
    )
    parser.add_argument("who", choices=("engine", "reference"))
    parser.add_argument("question", type=Path, help="question.json; answers are written beside it")
    given = parser.parse_args(arguments)
    question = json.loads(given.question.read_text(encoding="utf-8"))
    found = ask_engine(question) if given.who == "engine" else ask_reference(question)
    if found is not None:
        path = given.question.with_name(f"{given.who}_answers.json")
        path.write_text(json.dumps(found) + "\n", encoding="utf-8")
    return 0


def ask_engine(question: dict[str, Any]) -> dict[str, Any] | None:
    """The engine's answers; None on every rank but the first."""
    import tensorrt_llm
    import torch
    from tensorrt_llm.runtime import ModelRunnerCpp

    rank = tensorrt_llm.mpi_rank()
    runner = ModelRunnerCpp.from_dir(question["engine"], rank=rank)
    answers = []
    for prompt in question["prompts"]:
        # All keywords have these names from 0.16 to 1.2.
        found = runner.generate(
            [torch.tensor(prompt, dtype=torch.int32)],
            max_new_tokens=question["new_tokens"],
            end_id=question["end_id"],
            pad_id=question["pad_id"],
            top_k=1,
            return_dict=True,
            output_sequence_lengths=True,
        )
        if rank == 0:
            length = int(found["sequence_lengths"][0][0])
            # The prompt comes first; what follows the length is padding.
            answers.append(found["output_ids"][0][0].tolist()[len(prompt) : length])
    return {"answers": answers} if rank == 0 else None


def ask_reference(question: dict[str, Any]) -> dict[str, Any]:
    """The answers of transformers, or why there are none."""
    try:
        return {"answers": _reference_answers(question)}
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return {"problem": text[:_LONGEST_PROBLEM]}


def _reference_answers(question: dict[str, Any]) -> list[list[int]]:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        question["checkpoint"],
        torch_dtype=getattr(torch, question["dtype"]),
        device_map="auto",
        local_files_only=True,
        trust_remote_code=False,
    )
    end_id = question["end_id"]
    answers = []
    for prompt in question["prompts"]:
        ids = torch.tensor([prompt]).to(model.device)
        found = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=question["new_tokens"],
            do_sample=False,
            num_beams=1,
            eos_token_id=None if end_id < 0 else end_id,
            pad_token_id=question["pad_id"],
        )
        answers.append(found[0].tolist()[len(prompt) :])
    return answers


if __name__ == "__main__":
    sys.exit(main())
