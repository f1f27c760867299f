"""Compares a new engine's greedy answers with transformers' before storing it.

The build container generates them (engine/answer.py); the questions, and whether the answers
agree, are decided here. Prompts and thresholds are in engine/answers.toml.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from falconry.checkpoint.files import find_tokenizer
from falconry.checkpoint.token_ids import first_end_id
from falconry.checkpoint.tokenizer import load_tokenizer
from falconry.data_files import Table, load_table, project_file
from falconry.engine.tensorrt_llm.commands import (
    ANSWER_SCRIPT,
    CHECKPOINT,
    ENGINE_ANSWERS,
    OUTPUT,
    QUESTION,
    REFERENCE_ANSWERS,
    Phase,
)
from falconry.engine.tensorrt_llm.machine import HostGpus
from falconry.engine.tensorrt_llm.memory import GIB, unquantised_bytes
from falconry.engine.tensorrt_llm.spec import GpuEngineSpec
from falconry.errors import EngineError

ANSWERS = "engine/answers.toml"

# What a manifest says of an engine's answers: compared with which, or not compared.
BY_TRANSFORMERS, BY_RECORD, OFF = "transformers", "recorded", "off"

_REMEDY = "take another recipe or toolchain, or, to keep such an engine, SET=engine.verify=off"
# The share of a build after which the engine answers; a guess.
_BUILT = 0.95
_ENGINE_DONE = 0.97


class AnswerData(Table):
    """engine/answers.toml."""

    prompts: tuple[str, ...]
    new_tokens: int
    least_agreement: Mapping[str, float]
    recorded: Mapping[str, tuple[tuple[int, ...], ...]]


def load_answers() -> AnswerData:
    """The prompts, the thresholds and the recorded answers."""
    return load_table(project_file(ANSWERS), AnswerData)


@dataclass(frozen=True, slots=True)
class Reference:
    """What an engine's answers are compared with.

    Attributes:
        answers: recorded token ids; None for those of transformers in the container.
        problem: why there is nothing to compare with.
    """

    answers: tuple[tuple[int, ...], ...] | None = None
    problem: str | None = None

    @property
    def in_container(self) -> bool:
        """Whether transformers answers there."""
        return self.answers is None and self.problem is None


def reference_for(
    spec: GpuEngineSpec, checkpoint: str | None, gpu_bytes: int, data: AnswerData
) -> Reference:
    """What an engine can be compared with, given the container's GPU memory."""
    needed = unquantised_bytes(spec)
    if needed <= gpu_bytes:
        return Reference()
    if checkpoint and checkpoint in data.recorded:
        return Reference(answers=data.recorded[checkpoint])
    return Reference(
        problem=f"the unquantised model needs {needed / GIB:.1f} of the GPUs'"
        f" {gpu_bytes / GIB:.1f} GiB, and no answers of this checkpoint are recorded"
    )


def memory_of(gpus: HostGpus | None, count: int) -> int:
    """The memory of a machine's first GPUs, which the container gets."""
    return sum(gpu.memory_bytes for gpu in gpus.gpus[:count]) if gpus else 0


def question(spec: GpuEngineSpec, checkpoint: Path, data: AnswerData) -> dict[str, object]:
    """The input of engine/answer.py, as JSON values."""
    tokenizer = load_tokenizer(find_tokenizer(checkpoint))
    limits = spec.recipe.limits
    new_tokens = min(data.new_tokens, limits.max_seq_len // 2)
    longest = min(limits.max_input_len, limits.max_seq_len - new_tokens)
    return {
        "prompts": [tokenizer.encode(text).ids[:longest] for text in data.prompts],
        "new_tokens": new_tokens,
        "end_id": first_end_id(spec.end_ids),
        "pad_id": spec.pad_id,
        "engine": str(OUTPUT),
        "checkpoint": str(CHECKPOINT),
        "dtype": spec.recipe.dtype,
    }


def with_questions(
    phases: Sequence[Phase], spec: GpuEngineSpec, reference: Reference
) -> tuple[Phase, ...]:
    """A build's phases, and those that ask for answers after it."""
    built = [
        replace(phase, span=(phase.span[0] * _BUILT, phase.span[1] * _BUILT)) for phase in phases
    ]
    world_size = spec.recipe.parallelism.world_size
    engine = _asking("engine", "asking the engine", world_size, (_BUILT, _ENGINE_DONE))
    if not reference.in_container:
        return (*built, replace(engine, span=(_BUILT, 1.0)))
    return (*built, engine, _asking("reference", "asking transformers", 1, (_ENGINE_DONE, 1.0)))


def _asking(who: str, step: str, ranks: int, span: tuple[float, float]) -> Phase:
    arguments = (who, str(QUESTION))
    if ranks == 1:
        return Phase(f"ask {who}", step, (str(ANSWER_SCRIPT),), arguments, span)
    ranked = ("--oversubscribe", "-n", str(ranks), "python3", str(ANSWER_SCRIPT), *arguments)
    return Phase(f"ask {who}", step, ("mpirun",), ranked, span)


def compare(
    spec: GpuEngineSpec,
    reference: Reference,
    checkpoint: Path,
    scratch: Path,
    log: Path,
    data: AnswerData,
) -> str:
    """Compares an engine's answers; gives the manifest's word for the reference.

    Raises:
        EngineError: the answers are too different; both texts are in the message.
    """
    given = _Answers.read(scratch / ENGINE_ANSWERS.name, log)
    if given.answers is None:
        raise EngineError("the engine gave no answers", where=log, remedy="read the log's end")
    expected, problem = reference.answers, reference.problem
    if reference.in_container:
        found = _Answers.read(scratch / REFERENCE_ANSWERS.name, log)
        expected = found.answers
        problem = f"transformers in the image does not answer: {found.problem}"
    if expected is None:
        return f"not possible: {problem}"
    shares = [
        agreement(mine, theirs, first_end_id(spec.end_ids))
        for mine, theirs in zip(given.answers, expected, strict=True)
    ]
    share = sum(shares) / len(shares)
    least = data.least_agreement[spec.recipe.quantization]
    if share < least:
        worst = shares.index(min(shares))
        texts = _texts(checkpoint, given.answers[worst], expected[worst])
        raise EngineError(
            f"the engine's answers differ from its checkpoint's: {share:.0%} agree and"
            f" {spec.recipe.quantization} needs {least:.0%}; to {data.prompts[worst]!r} it says"
            f" {texts[0]!r} and not {texts[1]!r}",
            where=log,
            remedy=_REMEDY,
        )
    return BY_TRANSFORMERS if reference.in_container else BY_RECORD


def agreement(mine: Sequence[int], theirs: Sequence[int], end_id: int) -> float:
    """The share of equal tokens from the beginning, without end tokens."""
    mine, theirs = (
        list(itertools.takewhile(lambda token: token != end_id, answer))
        for answer in (mine, theirs)
    )
    pairs = zip(mine, theirs, strict=False)
    same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    return same / max(len(mine), len(theirs), 1) if mine or theirs else 1.0


def not_compared(verified: str) -> str | None:
    """Why an engine's answers were not compared; None where they were."""
    if verified in (BY_TRANSFORMERS, BY_RECORD):
        return None
    reason = "engine.verify was off" if verified == OFF else verified.removeprefix("not possible: ")
    return f"its answers were not compared with the checkpoint's ({reason})"


class _Answers(Table):
    answers: tuple[tuple[int, ...], ...] | None = None
    problem: str | None = None

    @classmethod
    def read(cls, path: Path, log: Path) -> _Answers:
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            raise EngineError(
                f"the build ended without {path.name}", where=log, remedy="read the log's end"
            ) from None


def _texts(checkpoint: Path, *answers: Sequence[int]) -> list[str]:
    tokenizer = load_tokenizer(find_tokenizer(checkpoint))
    return [tokenizer.decode(list(answer)) for answer in answers]
