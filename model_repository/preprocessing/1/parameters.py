"""Checks the parameters beside a request's tensors; independent of Triton."""

import json

from .refusal import RefusedError

# What Triton's own front ends and clients put among a request's parameters. Anything else came
# from a JSON field that is no input of the model: a misspelt name must not be ignored.
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
# An answer does not repeat everything that a client sends.
_MOST_SHOWN_NAMES = 8
_LONGEST_SHOWN_NAME = 64


def check_parameters(parameters: str | None, *further: str) -> None:
    """Refuses a request with unknown parameters.

    Args:
        parameters: all of them as a JSON object, as Triton gives them.
        further: more names that the model knows.

    Raises:
        RefusedError: a parameter has another name.
    """
    unknown = sorted(set(json.loads(parameters or "{}")) - KNOWN_PARAMETERS - {*further})
    if unknown:
        shown = [name[:_LONGEST_SHOWN_NAME] for name in unknown[:_MOST_SHOWN_NAMES]]
        raise RefusedError(f"unknown field: {', '.join(shown)}")
