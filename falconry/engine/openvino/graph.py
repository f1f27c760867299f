"""The Falcon decoder as an OpenVINO model, checked as it will serve.

OpenVINO GenAI rewrites attention into its paged form when it loads a model. Where the graph is
not quite what the rewriting expects, it may refuse, or silently lose the ALiBi slopes; so the same
rewriting is done here and its result is checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import Node
from openvino import opset13 as op
from openvino._offline_transformations import paged_attention_transformation

from falconry.checkpoint.config import FalconArchitecture
from falconry.checkpoint.tensors import (
    EMBEDDING,
    FINAL_NORM,
    OUTPUT_PROJECTION,
    block_prefix,
    norm_names,
)
from falconry.engine.openvino import blocks
from falconry.engine.openvino.weights import Weight
from falconry.errors import EngineError

# Index of the slopes among PagedAttentionExtension's inputs (openvino 2026.4,
# src/core/dev_api/openvino/op/paged_attention.hpp).
_SLOPES_INPUT = 11


def decoder_model(architecture: FalconArchitecture, weights: Mapping[str, Weight]) -> ov.Model:
    """Builds the decoder with its key/value cache as state.

    Inputs: input_ids [B, S], attention_mask [B, T] and position_ids [B, S], i64; beam_idx [B],
    i32. Output: logits [B, S, vocab_size], float32. (See blocks for the letters.) The memory of
    the weights, which are every tensor of the architecture, must outlive the model.
    """
    return _Decoder(architecture, weights).model()


class _Inputs(NamedTuple):
    input_ids: Node
    attention_mask: Node
    position_ids: Node
    beam_idx: Node


class _Positions(NamedTuple):
    """How attention knows positions: by its mask, or by rotary tables."""

    mask: Node
    rotary: tuple[Node, Node] | None


class _Decoder:
    """A decoder under construction; collects the state's sinks on the way."""

    def __init__(self, architecture: FalconArchitecture, weights: Mapping[str, Weight]) -> None:
        self._architecture = architecture
        self._weights = weights
        self._inputs = _Inputs(
            _input("input_ids", 2),
            _input("attention_mask", 2),
            _input("position_ids", 2),
            _input("beam_idx", 1, ov.Type.i32),
        )
        self._positions = self._make_positions()
        self._sinks: list[Node] = []

    def model(self) -> ov.Model:
        embedding = self._parameter(EMBEDDING)
        x = op.gather(embedding, self._inputs.input_ids, blocks.integer(0))
        for layer in range(self._architecture.num_layers):
            x = self._block(x, layer)
        x = self._norm(x, FINAL_NORM)
        tied = self._architecture.tied_embeddings
        logits = blocks.linear(x, embedding if tied else self._parameter(OUTPUT_PROJECTION), None)
        result = op.result(logits)
        result.set_friendly_name("logits")
        logits.output(0).set_names({"logits"})
        return ov.Model([result], self._sinks, list(self._inputs), "falcon")

    def _make_positions(self) -> _Positions:
        architecture, inputs = self._architecture, self._inputs
        if architecture.alibi:
            slopes = blocks.alibi_slopes(architecture.num_heads, architecture.head_size)
            return _Positions(self._mask(blocks.alibi_bias(inputs.attention_mask, slopes)), None)
        tables = blocks.rotary_tables(
            inputs.position_ids, architecture.head_size, architecture.rope_theta
        )
        return _Positions(self._mask(blocks.floats(0.0)), tables)

    def _mask(self, scores_bias: Node) -> Node:
        inputs = self._inputs
        return blocks.causal_mask(inputs.input_ids, inputs.attention_mask, scores_bias)

    def _block(self, x: Node, layer: int) -> Node:
        """One decoder block: attention and MLP, in parallel or in sequence."""
        prefix = block_prefix(layer)
        attention_norm, mlp_norm = norm_names(self._architecture)
        normed = self._norm(x, f"{prefix}.{attention_norm}")
        attended = self._attention(normed, layer)
        if not self._architecture.parallel_attention:
            x = op.add(x, attended)
            return op.add(x, self._mlp(self._norm(x, f"{prefix}.{mlp_norm}"), prefix))
        mlp_input = self._norm(x, f"{prefix}.{mlp_norm}") if mlp_norm else normed
        return op.add(x, op.add(self._mlp(mlp_input, prefix), attended))

    def _attention(self, x: Node, layer: int) -> Node:
        architecture, prefix = self._architecture, f"{block_prefix(layer)}.self_attention"
        heads, kv_heads = architecture.num_heads, architecture.num_kv_heads
        size = architecture.head_size
        fused = self._linear(x, f"{prefix}.query_key_value")
        parts = blocks.integers(heads * size, kv_heads * size, kv_heads * size)
        query, key, value = op.variadic_split(fused, blocks.integer(-1), parts).outputs()
        query = blocks.split_heads(query, heads, size)
        key = blocks.split_heads(key, kv_heads, size)
        value = blocks.split_heads(value, kv_heads, size)
        if self._positions.rotary:
            query = blocks.rotate(query, self._positions.rotary, size)
            key = blocks.rotate(key, self._positions.rotary, size)
        key = self._with_past(key, f"past.{layer}.key")
        value = self._with_past(value, f"past.{layer}.value")
        attended = op.scaled_dot_product_attention(query, key, value, self._positions.mask)
        merged = blocks.merge_heads(attended, architecture.hidden_size)
        return self._linear(merged, f"{prefix}.dense")

    def _with_past(self, x: Node, name: str) -> Node:
        architecture = self._architecture
        kv_heads, size = architecture.num_kv_heads, architecture.head_size
        everything, sink = blocks.cached(x, name, self._inputs.beam_idx, kv_heads, size)
        self._sinks.append(sink)
        return blocks.repeat_heads(everything, architecture.num_heads // kv_heads, kv_heads, size)

    def _mlp(self, x: Node, prefix: str) -> Node:
        inner = op.gelu(self._linear(x, f"{prefix}.mlp.dense_h_to_4h"), "erf")
        return self._linear(inner, f"{prefix}.mlp.dense_4h_to_h")

    def _norm(self, x: Node, prefix: str) -> Node:
        weight, bias = self._parameter(f"{prefix}.weight"), self._parameter(f"{prefix}.bias")
        return blocks.layer_norm(x, weight, bias, self._architecture.layer_norm_epsilon)

    def _linear(self, x: Node, prefix: str) -> Node:
        bias = self._parameter(f"{prefix}.bias") if self._architecture.bias else None
        return blocks.linear(x, self._parameter(f"{prefix}.weight"), bias)

    def _parameter(self, name: str) -> Node:
        return blocks.parameter(self._weights[name], name)


def _input(name: str, rank: int, element: ov.Type = ov.Type.i64) -> Node:
    node = op.parameter(ov.PartialShape([-1] * rank), element, name=name)
    node.output(0).set_names({name})
    return node


def check_model(path: Path, architecture: FalconArchitecture) -> None:
    """Reads a model back and compares its paged attention with the architecture.

    The weights are mapped, not read.

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
            "paged attention changed what the model computes: " + "; ".join(problems),
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
    slopes = blocks.alibi_slopes(heads, size) if architecture.alibi else np.empty(0)
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
