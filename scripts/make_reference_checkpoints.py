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
"""Make tiny random checkpoints of each Falcon family, with transformers' answers.

Every checkpoint of tests/data/checkpoints has the configuration keys, tensor names and stored type
of a published model of its family, and a reference.json: prompts and the 64 tokens that greedy
decoding of the stored weights gives in float32. Seeds are tried in order until no answer is a near
tie or a loop. Run it with `uv run --script scripts/make_reference_checkpoints.py [FAMILY ...]`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from falcon_checkpoint import (
    END_OF_TEXT_ID,
    SPECIAL_TOKENS,
    replaced_directory,
    save_tokenizer,
    train_tokenizer,
    write_json,
)
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

SCRIPTS = Path(__file__).resolve().parent
CORPUS = SCRIPTS / "tiny_falcon_corpus.json"
TARGET = SCRIPTS.parent / "tests" / "data" / "checkpoints"

# Threads split the sums; one thread keeps the last digits the same.
THREADS = 1
MAX_POSITIONS = 256
TOKENIZER_SIZE = 440
NEW_TOKENS = 64
SEEDS = 400
# Far above what the order of float32 sums can change, so that any right engine answers the same.
REQUIRED_MARGIN = 5e-3
REQUIRED_DISTINCT_TOKENS = 12

# The longest is about 30 tokens: transformers multiplies ALiBi's slopes and positions in bfloat16
# (build_alibi_tensor of its modeling_falcon.py), which is exact only while positions stay small.
PROMPTS = (
    "T",
    "Water",
    "日本",
    "  two\tspaces",
    "Where is the café?",
    "User: Why?\nFalcon:",
    "Explain Cloud Computing to a school kid",
    "At 25 °C, is water solid, liquid or vapour – or all?",
)


@dataclass(frozen=True, slots=True)
class Family:
    """A published Falcon model in small.

    Attributes:
        name: the directory's name.
        stored_as: the type of the stored weights, as config.json names it.
        config: the keys of the published config.json that its siblings do not share.
        common: the keys that they share.
        saved_by_5: config.json has the spelling of transformers 5: `dtype`, and RoPE's base in
            `rope_parameters` alone.
        shard_size: the most that one safetensors file holds, as transformers writes it.
    """

    name: str
    stored_as: str
    config: dict[str, object]
    common: dict[str, object]
    saved_by_5: bool = False
    shard_size: str = "5GB"

    def values(self) -> dict[str, object]:
        """All keys of its config.json."""
        values = {**self.common, **self.config, "torch_dtype": self.stored_as}
        if self.saved_by_5:
            values["dtype"] = values.pop("torch_dtype")
            base = {"rope_theta": values.pop("rope_theta"), "rope_type": "default"}
            values["rope_parameters"] = base
            values.pop("rope_scaling")
        return dict(sorted(values.items()))


# Keys common to the config.json files of tiiuae/falcon-rw-1b, falcon-7b, falcon-40b, falcon-11B.
# The end-of-text id is that of the tokenizer here; falcon-rw-1b, with GPT-2's, names others.
COMMON_CONFIG: dict[str, object] = {
    "architectures": ["FalconForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": END_OF_TEXT_ID,
    "eos_token_id": END_OF_TEXT_ID,
    "hidden_dropout": 0.0,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "max_position_embeddings": MAX_POSITIONS,
    "model_type": "falcon",
    "use_cache": True,
    "vocab_size": TOKENIZER_SIZE,
}

# Keys common to the config.json files of Falcon3 of 1B, 3B, 7B and 10B.
FALCON3_CONFIG: dict[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "eos_token_id": END_OF_TEXT_ID,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": MAX_POSITIONS,
    "mlp_bias": False,
    "model_type": "llama",
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000042,
    "tie_word_embeddings": False,
    "use_cache": True,
    "vocab_size": TOKENIZER_SIZE,
}

FAMILIES = (
    # tiiuae/falcon-rw-1b: ALiBi, one key-value head for each query head, attention then MLP,
    # biases, and a vocabulary padded to a multiple of 64. Its head count is a power of two.
    Family(
        name="falcon-rw",
        stored_as="float32",
        common=COMMON_CONFIG,
        config={
            "alibi": True,
            "apply_residual_connection_post_layernorm": False,
            "bias": True,
            "hidden_size": 64,
            "multi_query": False,
            "new_decoder_architecture": False,
            "num_attention_heads": 4,
            "num_hidden_layers": 3,
            "parallel_attn": False,
            "vocab_size": 448,
        },
    ),
    # tiiuae/falcon-7b: RoPE, one key-value head for all (num_kv_heads is not given and, under
    # multi_query, not used), attention beside the MLP, an odd head count.
    Family(
        name="falcon-7b",
        stored_as="float32",
        common=COMMON_CONFIG,
        config={
            "alibi": False,
            "apply_residual_connection_post_layernorm": False,
            "bias": False,
            "hidden_size": 80,
            "multi_query": True,
            "new_decoder_architecture": False,
            "num_attention_heads": 5,
            "num_hidden_layers": 3,
            "parallel_attn": True,
        },
    ),
    # tiiuae/falcon-40b: grouped key-value heads, a layer norm each for attention and MLP, shards.
    Family(
        name="falcon-40b",
        stored_as="bfloat16",
        common=COMMON_CONFIG,
        config={
            "alibi": False,
            "apply_residual_connection_post_layernorm": False,
            "bias": False,
            "hidden_size": 128,
            "new_decoder_architecture": True,
            "num_attention_heads": 8,
            "num_hidden_layers": 2,
            "num_kv_heads": 2,
            "parallel_attn": True,
        },
        shard_size="500KB",
    ),
    # tiiuae/falcon-11B: as falcon-40b with one layer norm, another RoPE base and its own lm_head.
    # Published in bfloat16; float16 here, so that every stored type is met once.
    Family(
        name="falcon2-11b",
        stored_as="float16",
        common=COMMON_CONFIG,
        config={
            "activation": "gelu",
            "alibi": False,
            "bias": False,
            "ff_factor": 4,
            "ffn_hidden_size": 512,
            "hidden_size": 128,
            "multi_query": True,
            "new_decoder_architecture": True,
            "num_attention_heads": 8,
            "num_hidden_layers": 2,
            "num_kv_heads": 2,
            "num_ln_in_parallel_attn": 1,
            "parallel_attn": True,
            "rope_scaling": None,
            "rope_theta": 500042.0,
            "tie_word_embeddings": False,
        },
    ),
    # tiiuae/Falcon3-3B/7B/10B-Instruct: 12 heads for 4 key-value heads, its own lm_head.
    Family(
        name="falcon3",
        stored_as="bfloat16",
        common=FALCON3_CONFIG,
        config={
            "activation": "swiglu",
            "bos_token_id": END_OF_TEXT_ID,
            "head_dim": 16,
            "hidden_size": 192,
            "intermediate_size": 256,
            "num_attention_heads": 12,
            "num_hidden_layers": 2,
            "num_key_value_heads": 4,
        },
    ),
    # The published head size, which makes the heads together wider than the hidden size here.
    # Without a bos_token_id, as tiiuae/Falcon3-7B-Base.
    Family(
        name="falcon3-wide",
        stored_as="bfloat16",
        common=FALCON3_CONFIG,
        config={
            "head_dim": 256,
            "hidden_size": 64,
            "intermediate_size": 160,
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "num_key_value_heads": 2,
        },
    ),
    # A fine-tune saved by transformers 5 in float16, its output projection tied, no head_dim.
    Family(
        name="falcon3-tied",
        stored_as="float16",
        common=FALCON3_CONFIG,
        config={
            "bos_token_id": END_OF_TEXT_ID,
            "hidden_size": 96,
            "intermediate_size": 256,
            "num_attention_heads": 6,
            "num_hidden_layers": 3,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
        },
        saved_by_5=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A prompt, its greedy continuation, and the smallest gap between best logits."""

    text: str
    input_ids: list[int]
    output_ids: list[int]
    margin: float


def main() -> None:
    """Make the checkpoints of every family."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [family.name for family in FAMILIES]
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(names)}")
    parser.add_argument("--output", type=Path, default=TARGET, help="default: %(default)s")
    values = parser.parse_args()
    output = values.output
    if unknown := set(values.families) - set(names):
        parser.error(f"there is no family {', '.join(sorted(unknown))}")

    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    tokenizer = train_tokenizer(tokenizer_texts(), TOKENIZER_SIZE)
    for family in FAMILIES:
        if values.families and family.name not in values.families:
            continue
        with replaced_directory(output / family.name) as directory:
            save_tokenizer(tokenizer, directory, MAX_POSITIONS)
            seed, answers = first_good_weights(family, tokenizer, directory)
            write_json(directory / "reference.json", reference(seed, answers))
        margin = min(answer.margin for answer in answers)
        print(f"{family.name}: seed {seed}, smallest margin {margin:.4f}", flush=True)
    print(f"wrote {output}")


def tokenizer_texts() -> Iterator[str]:
    """What the tokenizer is trained on."""
    for pair in json.loads(CORPUS.read_text(encoding="utf-8")):
        yield pair["prompt"]
        yield pair["answer"]


def first_good_weights(
    family: Family, tokenizer: Tokenizer, directory: Path
) -> tuple[int, list[Answer]]:
    """Store the weights of the first seed whose answers are all good.

    Raises:
        SystemExit: no seed gives good answers.
    """
    for seed in range(SEEDS):
        stored = stored_model(family, seed, directory)
        answers = []
        for prompt in PROMPTS:
            answers.append(greedy_answer(stored, tokenizer, prompt))
            if not is_good(answers[-1]):
                break
        else:
            return seed, answers
    raise SystemExit(f"{family.name}: none of {SEEDS} seeds gives good answers.")


def stored_model(family: Family, seed: int, directory: Path) -> PreTrainedModel:
    """Write the random weights of a seed, and load the checkpoint."""
    config = family.values()
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    randomise(model, torch.Generator().manual_seed(seed))
    model.to(getattr(torch, family.stored_as))
    model.save_pretrained(directory, max_shard_size=family.shard_size)
    # transformers 5 writes newer keys (dtype, rope_parameters) than the published files have.
    write_json(directory / "config.json", config)
    # Not "eager": in transformers 5.23 that path adds ALiBi twice (modeling_falcon.py, in the mask
    # of FalconModel.forward and again in FalconAttention.forward).
    return AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="sdpa"
    ).eval()


@torch.no_grad()
def randomise(model: PreTrainedModel, generator: torch.Generator) -> None:
    """Fill every weight, so widely that greedy text varies."""
    embedding = model.get_input_embeddings().weight
    for name, weight in model.named_parameters():
        if weight is embedding or "lm_head" in name:
            weight.normal_(0, 0.1, generator=generator)
            # Special tokens, and ids that the tokenizer does not have, never win.
            weight[: len(SPECIAL_TOKENS)] *= 0.1
            weight[TOKENIZER_SIZE:] *= 0.1
        elif weight.dim() == 2:
            weight.normal_(0, 2 / weight.shape[1] ** 0.5, generator=generator)
        elif name.endswith("weight"):
            weight.normal_(1, 0.2, generator=generator)
        else:
            weight.normal_(0, 0.2, generator=generator)
    falcon = model.config.model_type == "falcon"
    final_norm = model.transformer.ln_f if falcon else model.model.norm
    final_norm.weight *= 5  # spreads the logits
    if falcon and model.config.alibi:
        oppose_repetition(model)


@torch.no_grad()
def oppose_repetition(model: PreTrainedModel) -> None:
    """Let every attention head subtract what it reads, against repetition.

    Random weights with ALiBi, which knows no absolute position and no rotation, soon repeat
    themselves. Falcon's fused rows are query, key and value in turn, head by head.
    """
    heads, hidden = model.config.num_attention_heads, model.config.hidden_size
    for layer in model.transformer.h:
        attention = layer.self_attention
        rows = attention.query_key_value.weight.view(heads, 3, hidden // heads, hidden)
        attention.dense.weight.copy_(-rows[:, 2].reshape(hidden, hidden).T / 2)


def greedy_answer(model: PreTrainedModel, tokenizer: Tokenizer, prompt: str) -> Answer:
    """Continue one prompt by NEW_TOKENS tokens or to the end of text."""
    input_ids = tokenizer.encode(prompt).ids
    prompt_ids = torch.tensor([input_ids])
    output = model.generate(
        prompt_ids,
        attention_mask=torch.ones_like(prompt_ids),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        pad_token_id=END_OF_TEXT_ID,
        return_dict_in_generate=True,
        output_logits=True,
    )
    best, second = torch.cat(output.logits).topk(2).values.unbind(-1)
    return Answer(
        text=prompt,
        input_ids=input_ids,
        output_ids=output.sequences[0, len(input_ids) :].tolist(),
        margin=float((best - second).min()),
    )


def is_good(answer: Answer) -> bool:
    """Whether the answer is full, varied, without near ties and unknown tokens."""
    return (
        len(answer.output_ids) == NEW_TOKENS
        and len(set(answer.output_ids)) >= REQUIRED_DISTINCT_TOKENS
        and answer.margin > REQUIRED_MARGIN
        and len(SPECIAL_TOKENS) <= min(answer.output_ids)
        and max(answer.output_ids) < TOKENIZER_SIZE
    )


def reference(seed: int, answers: list[Answer]) -> dict[str, object]:
    """The content of reference.json."""
    return {
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "dtype": "float32",
        "seed": seed,
        "smallest_margin": round(min(answer.margin for answer in answers), 5),
        "new_tokens": NEW_TOKENS,
        "prompts": [
            {"text": one.text, "input_ids": one.input_ids, "output_ids": one.output_ids}
            for one in answers
        ],
    }


if __name__ == "__main__":
    main()
