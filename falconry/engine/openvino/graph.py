"""A decoder as an OpenVINO model, checked as it will serve.

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

from falconry.checkpoint.architecture import Architecture, FalconArchitecture, LlamaArchitecture
from falconry.checkpoint.tensors import OUTPUT_PROJECTION, falcon_norms, tensor_names
from falconry.engine.openvino import blocks
from falconry.engine.openvino.weights import Weight
from falconry.errors import EngineError

# Index of the slopes among PagedAttentionExtension's inputs (openvino 2026.4,
# src/core/dev_api/openvino/op/paged_attention.hpp).
_SLOPES_INPUT = 11


def decoder_model(architecture: Architecture, weights: Mapping[str, Weight]) -> ov.Model:
    """Builds the decoder with its key/value cache as state.

    Inputs: input_ids [B, S], attention_mask [B, T] and position_ids [B, S], i64; beam_idx [B],
    i32. Output: logits [B, S, vocab_size], float32. (See blocks for the letters.) The memory of
    the weights, which are every tensor of the architecture, must outlive the model.
    """
    inputs = _Inputs(
        _input("input_ids", 2),
        _input("attention_mask", 2),
        _input("position_ids", 2),
        _input("beam_idx", 1, ov.Type.i32),
    )
    parameters, attention = _Parameters(weights), _Attention(architecture, inputs)
    names = tensor_names(architecture)
    layers: _FalconLayers | _LlamaLayers
    if isinstance(architecture, FalconArchitecture):
        layers = _FalconLayers(architecture, parameters, attention)
    else:
        layers = _LlamaLayers(architecture, parameters, attention)

    embedding = parameters.node(names.embedding)
    x = op.gather(embedding, inputs.input_ids, blocks.integer(0))
    for number in range(architecture.num_layers):
        x = layers.layer(x, number)
    x = layers.norm(x, names.final_norm)
    tied = architecture.tied_embeddings
    logits = blocks.linear(x, embedding if tied else parameters.node(OUTPUT_PROJECTION), None)
    result = op.result(logits)
    result.set_friendly_name("logits")
    logits.output(0).set_names({"logits"})
    return ov.Model([result], attention.sinks, list(inputs), "falcon")


class _Inputs(NamedTuple):
    input_ids: Node
    attention_mask: Node
    position_ids: Node
    beam_idx: Node


class _Parameters:
    """The weights as nodes."""

    def __init__(self, weights: Mapping[str, Weight]) -> None:
        self._weights = weights

    def node(self, name: str) -> Node:
        return blocks.parameter(self._weights[name], name)

    def linear(self, x: Node, prefix: str, bias: bool = False) -> Node:
        offset = self.node(f"{prefix}.bias") if bias else None
        return blocks.linear(x, self.node(f"{prefix}.weight"), offset)


class _Attention:
    """What all layers of all families share, from the projections to the merged heads.

    Attributes:
        sinks: what stores the key/value cache, of the layers made so far.
    """

    def __init__(self, architecture: Architecture, inputs: _Inputs) -> None:
        self._architecture = architecture
        self._inputs = inputs
        self._rotary: tuple[Node, Node] | None = None
        slopes = _alibi_slopes(architecture)
        if slopes is None:
            self._rotary = blocks.rotary_tables(
                inputs.position_ids, architecture.head_size, architecture.rope_theta
            )
            bias = blocks.floats(0.0)
        else:
            bias = blocks.alibi_bias(inputs.attention_mask, slopes)
        self._mask = blocks.causal_mask(inputs.input_ids, inputs.attention_mask, bias)
        self.sinks: list[Node] = []

    def __call__(self, query: Node, key: Node, value: Node, number: int) -> Node:
        """Attends to this call's tokens and to those in the layer's cache.

        The query is [B, S, H * D], before the rotary embedding; key and value are [B, S, K * D].
        """
        architecture = self._architecture
        kv_heads, size = architecture.num_kv_heads, architecture.head_size
        query = blocks.split_heads(query, architecture.num_heads, size)
        key = blocks.split_heads(key, kv_heads, size)
        value = blocks.split_heads(value, kv_heads, size)
        if self._rotary:
            query = blocks.rotate(query, self._rotary, size)
            key = blocks.rotate(key, self._rotary, size)
        key = self._with_past(key, f"past.{number}.key")
        value = self._with_past(value, f"past.{number}.value")
        attended = op.scaled_dot_product_attention(query, key, value, self._mask)
        return blocks.merge_heads(attended, architecture.attention_size)

    def _with_past(self, x: Node, name: str) -> Node:
        architecture = self._architecture
        kv_heads, size = architecture.num_kv_heads, architecture.head_size
        everything, sink = blocks.cached(x, name, self._inputs.beam_idx, kv_heads, size)
        self.sinks.append(sink)
        return blocks.repeat_heads(everything, architecture.num_heads // kv_heads, kv_heads, size)


class _FalconLayers:
    """Layers of a Falcon: attention and MLP in parallel or in sequence."""

    def __init__(
        self, architecture: FalconArchitecture, parameters: _Parameters, attention: _Attention
    ) -> None:
        self._architecture = architecture
        self._parameters = parameters
        self._attention = attention
        self._names = tensor_names(architecture)

    def layer(self, x: Node, number: int) -> Node:
        prefix = self._names.layer(number)
        attention_norm, mlp_norm = falcon_norms(self._architecture)
        normed = self.norm(x, f"{prefix}.{attention_norm}")
        attended = self._attend(normed, f"{prefix}.self_attention", number)
        if not self._architecture.parallel_attention:
            x = op.add(x, attended)
            return op.add(x, self._mlp(self.norm(x, f"{prefix}.{mlp_norm}"), prefix))
        mlp_input = self.norm(x, f"{prefix}.{mlp_norm}") if mlp_norm else normed
        return op.add(x, op.add(self._mlp(mlp_input, prefix), attended))

    def norm(self, x: Node, prefix: str) -> Node:
        weight, bias = (self._parameters.node(f"{prefix}.{part}") for part in ("weight", "bias"))
        return blocks.layer_norm(x, weight, bias, self._architecture.norm_epsilon)

    def _attend(self, x: Node, prefix: str, number: int) -> Node:
        architecture = self._architecture
        keys = architecture.num_kv_heads * architecture.head_size
        fused = self._linear(x, f"{prefix}.query_key_value")
        parts = blocks.integers(architecture.attention_size, keys, keys)
        query, key, value = op.variadic_split(fused, blocks.integer(-1), parts).outputs()
        return self._linear(self._attention(query, key, value, number), f"{prefix}.dense")

    def _mlp(self, x: Node, prefix: str) -> Node:
        inner = op.gelu(self._linear(x, f"{prefix}.mlp.dense_h_to_4h"), "erf")
        return self._linear(inner, f"{prefix}.mlp.dense_4h_to_h")

    def _linear(self, x: Node, prefix: str) -> Node:
        return self._parameters.linear(x, prefix, self._architecture.bias)


class _LlamaLayers:
    """Layers of a Llama: attention, then a gated MLP."""

    def __init__(
        self, architecture: LlamaArchitecture, parameters: _Parameters, attention: _Attention
    ) -> None:
        self._epsilon = architecture.norm_epsilon
        self._parameters = parameters
        self._attention = attention
        self._names = tensor_names(architecture)

    def layer(self, x: Node, number: int) -> Node:
        prefix = self._names.layer(number)
        normed = self.norm(x, f"{prefix}.input_layernorm")
        x = op.add(x, self._attend(normed, f"{prefix}.self_attn", number))
        normed = self.norm(x, f"{prefix}.post_attention_layernorm")
        return op.add(x, self._mlp(normed, f"{prefix}.mlp"))

    def norm(self, x: Node, prefix: str) -> Node:
        return blocks.rms_norm(x, self._parameters.node(f"{prefix}.weight"), self._epsilon)

    def _attend(self, x: Node, prefix: str, number: int) -> Node:
        # Separate matrices: fused ones would have to be copied out of the checkpoint.
        query, key, value = (
            self._parameters.linear(x, f"{prefix}.{part}_proj") for part in ("q", "k", "v")
        )
        attended = self._attention(query, key, value, number)
        return self._parameters.linear(attended, f"{prefix}.o_proj")

    def _mlp(self, x: Node, prefix: str) -> Node:
        gate, up = (self._parameters.linear(x, f"{prefix}.{part}_proj") for part in ("gate", "up"))
        return self._parameters.linear(blocks.gated(gate, up), f"{prefix}.down_proj")


def _alibi_slopes(architecture: Architecture) -> npt.NDArray[np.float32] | None:
    """The slopes of its heads; None where positions are rotary."""
    if isinstance(architecture, FalconArchitecture) and architecture.alibi:
        return blocks.alibi_slopes(architecture.num_heads, architecture.head_size)
    return None


def _input(name: str, rank: int, element: ov.Type = ov.Type.i64) -> Node:
    node = op.parameter(ov.PartialShape([-1] * rank), element, name=name)
    node.output(0).set_names({name})
    return node


def check_model(path: Path, architecture: Architecture) -> None:
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


def _problems(model: ov.Model, architecture: Architecture) -> Iterator[str]:
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
    slopes = _alibi_slopes(architecture)
    slopes = np.empty(0, np.float32) if slopes is None else slopes
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
