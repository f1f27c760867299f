"""STAND-IN, not NVIDIA's: what engine/answer.py needs of tensorrt_llm, torch and transformers.

ModelRunnerCpp takes and gives what that of TensorRT-LLM 0.16 to 1.2 does. Both models answer by the
same rule, so that they agree unless STAND_IN_FAULT says otherwise:
    ask engine:wrong       the engine answers other tokens.
    ask engine:broken      it cannot be loaded.
    ask reference:broken   transformers does not know the checkpoint.
"""

import json
import os
from pathlib import Path

from stand_in_command import fault_of

__all__ = ["Tensor", "bfloat16", "float16", "float32", "int32", "ones_like", "tensor"]

int32, float16, bfloat16, float32 = "int32", "float16", "bfloat16", "float32"


class Tensor:
    """A tensor of nested lists."""

    def __init__(self, values) -> None:
        self._values = values

    def __getitem__(self, index):
        value = self._values[index]
        return Tensor(value) if isinstance(value, list) else value

    def __len__(self) -> int:
        return len(self._values)

    def tolist(self) -> list:
        return self._values

    def to(self, device: str) -> "Tensor":
        return self


def tensor(values: list, dtype: str | None = None) -> Tensor:
    """`torch.tensor`."""
    return Tensor(values)


def ones_like(other: Tensor) -> Tensor:
    """`torch.ones_like`."""
    return Tensor([[1] * len(row) for row in other.tolist()])


def mpi_rank() -> int:
    """`tensorrt_llm.mpi_rank`."""
    return int(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))


class ModelRunnerCpp:
    """`tensorrt_llm.runtime.ModelRunnerCpp`."""

    def __init__(self, config: dict, rank: int) -> None:
        self._vocabulary = config["pretrained_config"]["vocab_size"]
        self._longest = config["build_config"]["max_seq_len"]
        self._rank = rank

    @classmethod
    def from_dir(cls, engine_dir: str, *, rank: int = 0) -> "ModelRunnerCpp":
        config = json.loads((Path(engine_dir) / "config.json").read_text())
        world_size = config["pretrained_config"]["mapping"]["world_size"]
        assert world_size == int(os.environ.get("OMPI_COMM_WORLD_SIZE", "1")), "MPI size mismatch"
        assert rank == mpi_rank(), "rank mismatch"
        if fault_of("ask engine")[0] == "broken":
            raise RuntimeError("Failed to deserialize cuda engine.")
        return cls(config, rank)

    def generate(
        self,
        batch_input_ids: list,
        *,
        max_new_tokens: int = 1,
        end_id: int | None = None,
        pad_id: int | None = None,
        return_dict: bool = False,
        output_sequence_lengths: bool = False,
        top_k: int = 0,
    ):
        assert return_dict and output_sequence_lengths and top_k == 1
        assert end_id is not None and pad_id is not None, "padding with None"
        prompts = [ids.tolist() for ids in batch_input_ids]
        if any(len(prompt) + max_new_tokens > self._longest for prompt in prompts):
            raise RuntimeError("prompt and answer exceed max_seq_len")
        if self._rank:
            return []
        rows, lengths = [], []
        for prompt in prompts:
            answer = _spoilt(_answer(prompt, max_new_tokens, self._vocabulary))
            whole = prompt + answer
            rows.append([whole + [end_id] * (self._longest - len(whole))])
            lengths.append([len(whole)])
        return {"output_ids": Tensor(rows), "sequence_lengths": Tensor(lengths)}


class AutoModelForCausalLM:
    """`transformers.AutoModelForCausalLM`, and the model that it gives."""

    device = "cuda:0"

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary

    @classmethod
    def from_pretrained(
        cls, place: str, *, torch_dtype, device_map, local_files_only, trust_remote_code
    ) -> "AutoModelForCausalLM":
        config = json.loads((Path(place) / "config.json").read_text())
        if fault_of("ask reference")[0] == "broken" or "auto_map" in config:
            raise ValueError("The checkpoint you are trying to load is not recognized.")
        return cls(config["vocab_size"])

    def generate(
        self,
        ids: Tensor,
        *,
        attention_mask: Tensor,
        max_new_tokens: int,
        do_sample: bool,
        num_beams: int,
        eos_token_id: int | None,
        pad_token_id: int,
    ) -> Tensor:
        assert not do_sample and num_beams == 1
        return Tensor(
            [row + _answer(row, max_new_tokens, self._vocabulary) for row in ids.tolist()]
        )


def _answer(prompt: list, count: int, vocabulary: int) -> list:
    return [100 + (7 * sum(prompt) + 13 * number) % (vocabulary - 200) for number in range(count)]


def _spoilt(answer: list) -> list:
    return [token - 50 for token in answer] if fault_of("ask engine")[0] == "wrong" else answer
