"""The tokenizer as OpenVINO models, which stop strings and grammars need inside the engine."""

from __future__ import annotations

from pathlib import Path

from falconry.checkpoint.tokenizer import load_tokenizer
from falconry.engine.openvino.model_file import write_model
from falconry.errors import EngineError

TOKENIZER_MODEL = "openvino_tokenizer.xml"
DETOKENIZER_MODEL = "openvino_detokenizer.xml"


def write_tokenizer(checkpoint: Path, output: Path) -> None:
    """Converts a checkpoint's tokenizer and its inverse.

    Args:
        checkpoint: the checkpoint's directory.
        output: gets both models under the names that OpenVINO GenAI looks for.

    Raises:
        CheckpointError: the tokenizer is absent or damaged.
        EngineError: it is of a kind that cannot be converted.
        MachineError: the disk is full or cannot be written.
    """
    tokenizer = load_tokenizer(checkpoint)
    # Prompts are taken as they are, so a template would only be one more thing to differ.
    tokenizer.chat_template = None
    from openvino_tokenizers import convert_tokenizer  # needs transformers, so costs a second

    try:
        models = convert_tokenizer(tokenizer, with_detokenizer=True, add_special_tokens=False)
    # The converter meets unknown tokenizers with whatever its parser stumbles over.
    except Exception as error:
        raise EngineError(
            f"the tokenizer cannot be converted for OpenVINO ({error})",
            where=checkpoint,
            remedy="use a byte-level BPE tokenizer, as the published Falcon models have",
        ) from error
    for model, name in zip(models, (TOKENIZER_MODEL, DETOKENIZER_MODEL), strict=True):
        write_model(model, output / name)
