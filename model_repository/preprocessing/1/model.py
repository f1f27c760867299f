"""Turns prompts and words into token ids, and refuses what the engine could not take.

Uses only what the server image holds: NumPy, the Rust `tokenizers`, jinja2 and Triton's module.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from .chat import ChatTemplate, read_messages
from .encoding import Encoder, Text
from .prompts import Limits, Prompt
from .refusal import RefusedError
from .words import flat_word_list, word_forms

# What Triton's own front ends and clients put among a request's parameters. Anything else came
# from a JSON field that is no input of the ensemble: a typing error must not be ignored.
KNOWN_PARAMETERS = frozenset(
    {
        "id",
        "binary_data_output",
        "sequence_id",
        "sequence_start",
        "sequence_end",
        "triton_enable_empty_final_response",
    }
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request with every text of it that is to be encoded."""

    prompt: Prompt
    text: Text
    bad_words: list[Text]
    stop_words: list[Text]

    @property
    def texts(self):
        """The prompt's text, then those of the words."""
        return [self.text, *self.bad_words, *self.stop_words]


class TritonPythonModel:
    """Triton's Python model: one instance, all requests of a batch encoded in one call."""

    def initialize(self, args):
        """Reads tokenizer and chat template beside this file, and what the engine takes."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        directory = Path(__file__).parent
        self._limits = Limits.from_parameters(parameters)
        # What the engine compares words with: the text, or its own tokens.
        self._spaced = parameters["words_are_compared_as"] == "tokens"
        self._encoder = Encoder(directory / "tokenizer.json")
        chat = directory / "chat.json"
        self._chat = ChatTemplate.read(chat) if chat.is_file() else None

    def execute(self, requests):
        """Answers each request with its tensors, or with the reason for its refusal."""
        read = [_guarded(self._read, request) for request in requests]
        ids = self._encoder.encode(
            [text for asked in read if isinstance(asked, Asked) for text in asked.texts]
        )
        return [
            _error(asked) if isinstance(asked, RefusedError) else self._answer(asked, ids)
            for asked in read
        ]

    def _read(self, request):
        unknown = sorted(set(json.loads(request.parameters() or "{}")) - KNOWN_PARAMETERS)
        if unknown:
            raise RefusedError(f"unknown field: {', '.join(unknown)}")
        prompt = Prompt.from_tensors(lambda name: _values(request, name))
        return Asked(
            prompt,
            Text(self._rendered(prompt.text)) if prompt.is_chat else Text(prompt.text, True),
            self._words(prompt.bad_words),
            self._words(prompt.stop_words),
        )

    def _rendered(self, messages):
        if self._chat is None:
            raise RefusedError("messages: this checkpoint has no chat template; send text_input")
        return self._chat.render(read_messages(messages))

    def _words(self, words):
        return [Text(form) for form in word_forms(words, spaced=self._spaced)]

    def _answer(self, asked, ids):
        """The response to a request, whose token sequences are the next ones in `ids`."""
        token_ids = next(ids)
        bad_words = [next(ids) for _ in asked.bad_words]
        stop_words = [next(ids) for _ in asked.stop_words]
        try:
            self._limits.check(asked.prompt, len(token_ids))
        except RefusedError as refusal:
            return _error(refusal)
        end_id, pad_id = asked.prompt.end_id, asked.prompt.pad_id
        values = {
            "INPUT_ID": token_ids,
            "REQUEST_INPUT_LEN": [len(token_ids)],
            "REQUEST_OUTPUT_LEN": [asked.prompt.max_tokens],
            "BAD_WORDS_IDS": flat_word_list(bad_words),
            "STOP_WORDS_IDS": flat_word_list(stop_words),
            "OUT_END_ID": [self._limits.end_id if end_id is None else end_id],
            "OUT_PAD_ID": [self._limits.pad_id if pad_id is None else pad_id],
        }
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor(name, np.asarray(content, np.int32)[np.newaxis])
                for name, content in values.items()
            ]
        )


def _values(request, name):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def _guarded(read, request):
    try:
        return read(request)
    except RefusedError as refusal:
        return refusal


def _error(refusal):
    error = pb_utils.TritonError(str(refusal), pb_utils.TritonError.INVALID_ARG)
    return pb_utils.InferenceResponse(error=error)
