"""Names, types, shapes and optionality of every tensor, held against NVIDIA's five models."""

import pytest

from falconry.repository.config import read_config
from tests.conftest import ROOT
from tests.stand_in_backend.surface import nvidia_models, row_of

MODELS = ["ensemble", "preprocessing", "tensorrt_llm", "postprocessing", "tensorrt_llm_bls"]
NVIDIA = nvidia_models("seed")

# What a text-only decoder without adapters has no use for, by the words in the tensors' names.
LEFT_OUT = {
    "encoder-decoder": ["encoder_", "DECODER_QUERY", "decoder_text_input", "cross_att", "CROSS_"],
    "images and video": ["image", "IMAGE", "video", "VIDEO", "VISION", "PIXEL", "mrope", "ASPECT"],
    "an image's mask": ["ATTENTION_MASK"],
    "LoRA": ["lora_"],
    "prompt tables": ["prompt_embedding_table", "prompt_table", "PROMPT_TABLE", "prompt_vocab"],
    "draft tokens and lookahead": ["draft", "lookahead_"],
    "disaggregation and retention of caches": ["context_phase_params", "retention_"],
    "counters of NVIDIA's executor": ["kv_cache_", "_time_ns", "acceptance_rate"],
    "counts, which responses have by other means": ["num_input_tokens", "num_output_tokens"],
    "requests for those counters": ["return_perf_metrics"],
    "logits, which no build line gathers": ["context_logits", "generation_logits"],
    "declared BOOL and read as INT32 (utils.cc)": ["early_stopping"],
    "skipped blocks of encoders": ["skip_cross_attn_blocks"],
}
# Inputs by which logits are declined, or refused with a sentence.
TAKEN_TO_BE_DECLINED = {"return_context_logits", "return_generation_logits"}
OURS = {
    "ensemble": {"messages"},
    "preprocessing": {
        "MESSAGES",
        "RETURN_CONTEXT_LOGITS",
        "RETURN_GENERATION_LOGITS",
        "EXCLUDE_INPUT_IN_OUTPUT",
        "OUT_EXCLUDE_INPUT_IN_OUTPUT",
    },
    "tensorrt_llm_bls": {
        "messages",
        "chat_options",
        "input_ids",
        "truncate_prompt_tokens",
        "stop_token_ids",
        "include_stop_str_in_output",
        "return_token_ids",
        "token_ids",
        "prompt_token_ids",
        "fit_max_tokens",
        "stop",
        "finish_reason",
        "prompt_tokens",
        "completion_tokens",
        "output_tokens",
    },
}
# Required by NVIDIA's models; here messages or a stop may come instead.
OPTIONAL_HERE = {"preprocessing": {"QUERY"}, "tensorrt_llm_bls": {"text_input", "max_tokens"}}


def tensors(model):
    config = read_config(ROOT / "model_repository" / model / "config.pbtxt")
    return {"input": config.input, "output": config.output}


def left_out(name):
    return name not in TAKEN_TO_BE_DECLINED and any(
        word in name for words in LEFT_OUT.values() for word in words
    )


@pytest.mark.parametrize("kind", ["input", "output"])
@pytest.mark.parametrize("model", MODELS)
def test_each_of_nvidias_tensors_is_there_or_left_out_for_a_reason(model, kind):
    ours = {each.name for each in tensors(model)[kind]}
    assert set(NVIDIA[model][kind]) - ours == {
        name for name in NVIDIA[model][kind] if left_out(name)
    }


@pytest.mark.parametrize("model", MODELS)
def test_a_tensor_has_nvidias_type_shape_and_optionality(model):
    for kind, own in tensors(model).items():
        for each in own:
            if each.name in OURS.get(model, ()):
                continue
            ours, nvidia = row_of(each), NVIDIA[model][kind][each.name]
            assert (each.name, ours.type, ours.dims) == (each.name, nvidia.type, nvidia.dims)
            optional = nvidia.optional or each.name in OPTIONAL_HERE.get(model, ())
            assert (each.name, ours.optional) == (each.name, optional)


def test_the_engines_model_reads_its_tensors_as_nvidias_backend_does():
    for kind, own in tensors("tensorrt_llm").items():
        for each in own:
            ours, nvidia = row_of(each), NVIDIA["tensorrt_llm"][kind][each.name]
            assert (each.name, ours.scalar, ours.ragged) == (
                each.name,
                nvidia.scalar,
                nvidia.ragged,
            )


def test_what_is_ours_is_none_of_nvidias_and_every_reason_has_a_tensor():
    known = {
        name
        for model, kinds in NVIDIA.items()
        for kind in ("input", "output")
        for name in kinds[kind]
    }
    assert not known.intersection(*OURS.values())
    for reason, words in LEFT_OUT.items():
        for word in words:
            assert any(word in name for name in known), (reason, word)
