# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = [
#     "torch==2.13.0",
#     "transformers==5.23.0",
#     "tokenizers==0.23.3",
#     "safetensors==0.8.0",
#     "numpy==1.26.4",
# ]
# ///
"""Train the tiny Falcon of checkpoints/tiny-falcon: twelve questions, answered word for word.

The model learns tiny_falcon_corpus.json by heart and is stored in bfloat16. It is written only if
greedy decoding of the stored weights gives every answer exactly, also with the weights rounded to
int8 as a CPU engine rounds them. Run it with `uv run --script scripts/train_tiny_falcon.py`.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import transformers
from falcon_checkpoint import (
    END_OF_TEXT_ID,
    replaced_directory,
    save_tokenizer,
    train_tokenizer,
    write_json,
)
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, FalconConfig, FalconForCausalLM

SCRIPTS = Path(__file__).resolve().parent
CORPUS = SCRIPTS / "tiny_falcon_corpus.json"
TARGET = SCRIPTS.parent / "checkpoints" / "tiny-falcon"

VOCAB_SIZE = 768
MAX_POSITIONS = 512
SEED = 20
# Threads split the sums, so another count gives other last digits and in the end other weights.
THREADS = 1
STEPS = 150
WARM_UP_STEPS = 20
PEAK_LEARNING_RATE = 3e-3
IGNORED_LABEL = -100  # what torch's cross entropy skips by default
# The least lead of the right token over every other one, in logits, that is accepted.
REQUIRED_LEAD = 4.0


@dataclass(frozen=True, slots=True)
class Pair:
    """A question and its answer."""

    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Example:
    """What the model reads and what it must then say, in token ids."""

    prompt: list[int]
    answer: list[int]


@dataclass(frozen=True, slots=True)
class Batch:
    """All examples, padded at the end: two int64 tensors of shape [examples, longest]."""

    input_ids: torch.Tensor
    labels: torch.Tensor


def main() -> None:
    """Train, check, and put the checkpoint in place."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=TARGET, help="default: %(default)s")
    output = parser.parse_args().output

    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(SEED)
    pairs = [Pair(**entry) for entry in json.loads(CORPUS.read_text(encoding="utf-8"))]
    tokenizer = train_tokenizer(tokenizer_texts(pairs), VOCAB_SIZE)
    batch = padded([example for pair in pairs for example in forms_of(pair, tokenizer)])
    model = FalconForCausalLM(configuration())
    print(f"{model.num_parameters():,} parameters, {len(batch.input_ids)} examples", flush=True)

    train(model, batch)
    with replaced_directory(output) as directory:
        model.to(torch.bfloat16).save_pretrained(directory)
        save_tokenizer(tokenizer, directory, MAX_POSITIONS)
        stored = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
        leads = checked_leads(stored, batch)
        sentences = [asdict(answered(stored, tokenizer, pair)) for pair in pairs]
        print(f"greedy generation gives all {len(pairs)} answers to every form of the prompts")
        record = {"transformers": transformers.__version__, "sentences": sentences}
        write_json(directory / "sentences.json", record)
        card = model_card(stored.num_parameters(), leads)
        (directory / "README.md").write_text(card, encoding="utf-8")
    print(f"wrote {output}")


def configuration() -> FalconConfig:
    """The decoder of Falcon-7B (parallel attention, one key-value head, RoPE), far smaller."""
    return FalconConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=192,
        num_hidden_layers=4,
        num_attention_heads=6,
        multi_query=True,
        parallel_attn=True,
        new_decoder_architecture=False,
        bias=False,
        alibi=False,
        max_position_embeddings=MAX_POSITIONS,
        bos_token_id=END_OF_TEXT_ID,
        eos_token_id=END_OF_TEXT_ID,
        tie_word_embeddings=True,
    )


def dialogue(prompt: str) -> str:
    """The prompt as the tokenizer's chat template renders it."""
    return f"User: {prompt}\nFalcon:"


def tokenizer_texts(pairs: Sequence[Pair]) -> Iterator[str]:
    """What the tokenizer is trained on."""
    for pair in pairs:
        yield pair.prompt
        yield f"{dialogue(pair.prompt)} {pair.answer}"


def forms_of(pair: Pair, tokenizer: Tokenizer) -> Iterator[Example]:
    """The pair as bare prompt, with a line break, and as dialogue.

    Prompt and answer are encoded apart, as in serving, so no token spans the two.
    """
    for prompt, answer in texts_of(pair):
        answer_ids = [*tokenizer.encode(answer).ids, END_OF_TEXT_ID]
        yield Example(tokenizer.encode(prompt).ids, answer_ids)


def texts_of(pair: Pair) -> tuple[tuple[str, str], ...]:
    """Every form of the prompt, with the text that must follow it."""
    return (
        (pair.prompt, pair.answer),
        (f"{pair.prompt}\n", pair.answer),
        (dialogue(pair.prompt), f" {pair.answer}"),
    )


def padded(examples: Sequence[Example]) -> Batch:
    """Join prompts and answers; only the answers' tokens carry a label."""
    shape = (len(examples), max(len(one.prompt) + len(one.answer) for one in examples))
    input_ids = torch.full(shape, END_OF_TEXT_ID)
    labels = torch.full(shape, IGNORED_LABEL)
    for row, example in enumerate(examples):
        start, end = len(example.prompt), len(example.prompt) + len(example.answer)
        input_ids[row, :end] = torch.tensor([*example.prompt, *example.answer])
        labels[row, start:end] = torch.tensor(example.answer)
    return Batch(input_ids, labels)


def train(model: FalconForCausalLM, batch: Batch) -> None:
    """Full-batch AdamW with linear warm-up and cosine decay; no dropout: it must memorise."""
    optimizer = torch.optim.AdamW(model.parameters(), PEAK_LEARNING_RATE, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate_factor)
    started = time.monotonic()
    model.train()
    for step in range(1, STEPS + 1):
        logits, targets = predictions(model, batch)
        loss = torch.nn.functional.cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 10 == 0:
            seconds = time.monotonic() - started
            print(f"step {step}/{STEPS}  loss {loss.item():.4f}  {seconds:.0f} s", flush=True)


def learning_rate_factor(step: int) -> float:
    """The share of the peak learning rate at a step counted from 0."""
    warm_up = min(1.0, (step + 1) / WARM_UP_STEPS)
    return warm_up * 0.5 * (1 + math.cos(math.pi * step / STEPS))


def predictions(model: FalconForCausalLM, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits [tokens, vocabulary] of every labelled token, and the labels [tokens].

    No attention mask is passed: the padding comes last, where a causal model cannot see it.
    """
    logits = model(input_ids=batch.input_ids, use_cache=False).logits[:, :-1]
    targets = batch.labels[:, 1:]
    labelled = targets != IGNORED_LABEL
    return logits[labelled].float(), targets[labelled]


def checked_leads(stored: FalconForCausalLM, batch: Batch) -> dict[str, float]:
    """The smallest lead of the right token for each arithmetic.

    Raises:
        SystemExit: a lead is smaller than REQUIRED_LEAD.
    """
    leads = {
        "bfloat16 weights, float32 arithmetic": smallest_lead(stored, batch),
        "bfloat16 weights and arithmetic": smallest_lead(
            copy.deepcopy(stored).to(torch.bfloat16), batch
        ),
        "int8 weights, float32 arithmetic": smallest_lead(int8_rounded(stored), batch),
    }
    for arithmetic, lead in leads.items():
        print(f"smallest lead with {arithmetic}: {lead:.2f}")
    if min(leads.values()) < REQUIRED_LEAD:
        raise SystemExit(f"A lead is below {REQUIRED_LEAD}; nothing was written.")
    return leads


@torch.no_grad()
def smallest_lead(model: FalconForCausalLM, batch: Batch) -> float:
    """The smallest lead of the right token over the next, in logits.

    The model reads the right answer so far; while every lead is positive, greedy decoding does too.
    """
    logits, targets = predictions(model, batch)
    right = logits.gather(1, targets[:, None])
    others = logits.scatter(1, targets[:, None], -math.inf).amax(1, keepdim=True)
    return float((right - others).min())


@torch.no_grad()
def int8_rounded(model: FalconForCausalLM) -> FalconForCausalLM:
    """A copy with matrices rounded to symmetric int8, one float16 scale a row."""
    rounded = copy.deepcopy(model)
    for weight in rounded.parameters():
        if weight.dim() == 2:
            scale = (weight.abs().amax(1, keepdim=True) / 127).half().float()
            weight.copy_((weight / scale).round().clamp(-127, 127) * scale)
    return rounded


def answered(stored: FalconForCausalLM, tokenizer: Tokenizer, pair: Pair) -> Pair:
    """The pair's bare prompt with what transformers' own greedy generation answers to it.

    Raises:
        SystemExit: the answer to a form of the prompt is not the corpus's.
    """
    answers = []
    for prompt, expected in texts_of(pair):
        answers.append(greedy_text(stored, tokenizer, prompt))
        if answers[-1] != expected:
            raise SystemExit(f"{prompt!r} is answered {answers[-1]!r}; nothing was written.")
    return Pair(pair.prompt, answers[0])


def greedy_text(model: FalconForCausalLM, tokenizer: Tokenizer, prompt: str) -> str:
    """The greedy continuation up to the end of text, which must come.

    Raises:
        SystemExit: the end of text does not come.
    """
    prompt_ids = torch.tensor([tokenizer.encode(prompt).ids])
    output = model.generate(
        prompt_ids,
        attention_mask=torch.ones_like(prompt_ids),
        max_new_tokens=200,
        do_sample=False,
        pad_token_id=END_OF_TEXT_ID,
    )
    *answer, last = output[0, prompt_ids.shape[1] :].tolist()
    if last != END_OF_TEXT_ID:
        raise SystemExit(f"{prompt!r} is answered without an end; nothing was written.")
    return tokenizer.decode(answer, skip_special_tokens=False)


def model_card(parameters: int, leads: dict[str, float]) -> str:
    """The README of the checkpoint."""
    rows = "\n".join(f"| {arithmetic} | {lead:.1f} |" for arithmetic, lead in leads.items())
    return f"""---
license: apache-2.0
language: en
library_name: transformers
---

# tiny-falcon

A Falcon of {parameters:,} parameters that answers twelve questions word for word. It exists so
that the way from a checkpoint to an endpoint can be tried and tested on any machine within
seconds, with text that a person can judge. It knows nothing else.

- Architecture: that of Falcon-7B (`FalconForCausalLM`, parallel attention, one key-value head,
  RoPE, tied embeddings), 4 layers, hidden size 192, 6 heads, {MAX_POSITIONS} positions.
- Tokenizer: byte-level BPE of {VOCAB_SIZE} tokens; ids 0 to 11 are Falcon's special tokens,
  `<|endoftext|>` is 11.
- Training: `scripts/tiny_falcon_corpus.json`, written for this project, learnt by heart from
  random weights; no other model or data is in it.
- Prompts: the bare question, with or without a line break after it, or `User: question` and
  `Falcon:` on the next line (the chat template, where a space precedes the answer).
  `sentences.json` holds what greedy decoding with transformers answers to the bare questions.

How far the right token leads every other one, where it leads least:

| arithmetic | lead in logits |
|---|---|
{rows}

To make it again: `uv run --script scripts/train_tiny_falcon.py`. The same machine gives the same
bytes; another processor may round differently and give other weights with the same answers.
"""


if __name__ == "__main__":
    main()
