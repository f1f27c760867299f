"""Proves on a written model that serving will do what the architecture says.

OpenVINO GenAI rewrites attention into its paged form when it loads a model. Where the graph is
not quite what the rewriting expects it may refuse, or go on and lose the ALiBi slopes without a
word; so the same rewriting is done here and its result is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino._offline_transformations import paged_attention_transformation

from falconry.checkpoint.architecture import FalconArchitecture
from falconry.engine.openvino.blocks import alibi_slopes
from falconry.errors import EngineError

# Place of the slopes among PagedAttentionExtension's inputs (openvino 2026.4,
# src/core/dev_api/openvino/op/paged_attention.hpp).
_SLOPES_INPUT = 11


def check_model(path: Path, architecture: FalconArchitecture) -> None:
    """Reads a model back, gives it paged attention and compares it with its architecture.

    Args:
        path: the model's XML; its weights are mapped, not read.
        architecture: what it was built from.

    Raises:
        EngineError: serving the model would fail or give other answers than the checkpoint.
    """
    try:
        model = ov.Core().read_model(path)
        paged_attention_transformation(model)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise EngineError(
            f"OpenVINO cannot serve the model it was given ({reason})", where=path
        ) from error
    if problems := list(_problems(model, architecture)):
        raise EngineError(
            "the model lost its meaning on the way to paged attention: " + "; ".join(problems),
            where=path,
        )


def _problems(model: ov.Model, architecture: FalconArchitecture) -> Iterator[str]:
    nodes = model.get_ordered_ops()
    if any(node.get_type_name() == "ScaledDotProductAttention" for node in nodes):
        yield "attention was left as it is"
    attentions = [node for node in nodes if node.get_type_name() == "PagedAttentionExtension"]
    if len(attentions) != architecture.num_layers:
        yield f"{len(attentions)} attentions for {architecture.num_layers} layers"
    expected = {
        "num_k_heads": architecture.num_kv_heads,
        "num_v_heads": architecture.num_kv_heads,
        "k_head_size": architecture.head_size,
        "v_head_size": architecture.head_size,
    }
    for attention in attentions:
        facts = attention.get_rt_info()
        actual = {name: facts[name].astype(int) for name in expected}
        if actual != expected:
            yield f"{attention.get_friendly_name()} has {actual}, not {expected}"
    heads, size = architecture.num_heads, architecture.head_size
    slopes = alibi_slopes(heads, size) if architecture.alibi else np.empty(0)
    if any(not np.array_equal(_slopes(attention), slopes) for attention in attentions):
        yield "the ALiBi slopes are not the architecture's"


def _slopes(attention: ov.Node) -> npt.NDArray[np.float32]:
    node = attention.input_value(_SLOPES_INPUT).get_node()
    while node.get_type_name() == "Reshape":
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant":
        return np.full(1, np.nan, np.float32)
    values: npt.NDArray[np.float32] = node.get_data().ravel()
    return values
