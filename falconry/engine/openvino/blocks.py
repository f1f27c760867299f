"""The parts of a decoder as OpenVINO graphs, a function each.

The shapes that the attention parts take are not free: OpenVINO GenAI turns them into paged
attention by matching them node for node (openvino 2026.4, sdpa_to_paged_attention.cpp and
state_management_pattern.cpp), and several near misses silently lose the ALiBi slopes.
`graph.check_model` compares the result with the architecture.

In the comments: B batch, S tokens of this call, T tokens with those in the cache, H query heads,
K key/value heads, D head size.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import Node
from openvino import opset13 as op
from openvino.op.util import Variable, VariableInfo

from falconry.engine.openvino.model_file import WIDENED
from falconry.engine.openvino.weights import BFLOAT16, Weight, from_float32, to_float32

# Added to the scores of positions that may not be attended to.
_BLOCKED = np.float32(np.finfo(np.float32).min)


def integers(*values: int) -> Node:
    """A constant vector of i64, the type of shapes and axes."""
    return op.constant(np.array(values, dtype=np.int64))


def integer(value: int) -> Node:
    """A scalar constant of i64."""
    return op.constant(np.int64(value))


def floats(values: object) -> Node:
    """A float32 constant."""
    return op.constant(np.array(values, dtype=np.float32))


def parameter(weight: Weight, name: str) -> Node:
    """A stored tensor as float32, widened where the model runs."""
    element = getattr(ov.Type, weight.element.openvino)
    shape = ov.Shape(list(weight.values.shape))
    stored = op.constant(ov.Tensor(weight.values, shape, element), shared_memory=True)
    stored.set_friendly_name(name)
    if element == ov.Type.f32:
        return stored
    if weight.scales is not None:
        levels = op.convert(stored, ov.Type.f16)
        return op.convert(op.multiply(levels, op.constant(weight.scales)), ov.Type.f32)
    widened = op.convert(stored, ov.Type.f32)
    widened.set_friendly_name(name + WIDENED)
    return widened


def layer_norm(x: Node, weight: Node, bias: Node, epsilon: float) -> Node:
    """Layer normalisation over the last axis."""
    normalized = op.mvn(
        x, integers(-1), normalize_variance=True, eps=epsilon, eps_mode="inside_sqrt"
    )
    return op.add(op.multiply(normalized, weight), bias)


def rms_norm(x: Node, weight: Node, epsilon: float) -> Node:
    """Root mean square normalisation over the last axis."""
    mean = op.reduce_mean(op.power(x, floats(2.0)), integers(-1), keep_dims=True)
    root = op.sqrt(op.add(mean, floats(epsilon)))
    return op.multiply(weight, op.multiply(x, op.divide(floats(1.0), root)))


def gated(gate: Node, up: Node) -> Node:
    """A gated MLP's inner product: SiLU of the gate, times `up`.

    With Swish, which has an input for beta here, OpenVINO's CPU plugin does not fuse the MLP
    (mlp_fusion.cpp). Fused, it would keep a second copy of a bfloat16 MLP's weights in float16.
    """
    return op.multiply(op.swish(gate), up)


def linear(x: Node, weight: Node, bias: Node | None) -> Node:
    """A linear layer; `weight` is [out, in]."""
    product = op.matmul(x, weight, transpose_a=False, transpose_b=True)
    return product if bias is None else op.add(product, bias)


def split_heads(x: Node, heads: int, head_size: int) -> Node:
    """[B, S, heads * D] to [B, heads, S, D]."""
    return op.transpose(
        op.reshape(x, integers(0, 0, heads, head_size), special_zero=True), integers(0, 2, 1, 3)
    )


def merge_heads(x: Node, size: int) -> Node:
    """[B, H, S, D] to [B, S, H * D], where `size` is H * D."""
    return op.reshape(
        op.transpose(x, integers(0, 2, 1, 3)), integers(0, 0, size), special_zero=True
    )


def rotary_tables(position_ids: Node, head_size: int, theta: float) -> tuple[Node, Node]:
    """Cosines and sines [B, 1, S, D] of the rotary embedding's angles.

    The position ids are [B, S]. Paged attention feeds its tokens along B with S = 1, so nothing
    may mix positions along S.
    """
    frequencies = 1.0 / theta ** (np.arange(0, head_size, 2, dtype=np.float32) / head_size)
    positions = op.unsqueeze(op.convert(position_ids, ov.Type.f32), integers(1, 3))
    half = op.multiply(positions, floats(frequencies.reshape(1, 1, 1, -1)))
    angles = op.concat([half, half], axis=-1)
    return op.cos(angles), op.sin(angles)


def rotate(x: Node, tables: tuple[Node, Node], head_size: int) -> Node:
    """Applies the rotary embedding to queries or keys [B, heads, S, D].

    In this shape OpenVINO fuses it into one operation (fuse_rotary_positional_embeddings.cpp,
    RoPEFusionGPTNEOX), which keeps the angles in float32. Unfused, bfloat16 arithmetic would round
    the positions themselves.
    """
    cosines, sines = tables
    half = integers(head_size // 2, head_size // 2)
    first, second = op.variadic_split(x, integer(3), half).outputs()
    turned = op.concat([op.multiply(second, floats(-1.0)), first], axis=-1)
    return op.add(op.multiply(x, cosines), op.multiply(turned, sines))


def cached(x: Node, name: str, beam_idx: Node, heads: int, head_size: int) -> tuple[Node, Node]:
    """Appends keys or values [B, K, S, D] to the state's.

    `beam_idx` [B] has the sequence that each one continues. Returns all of them [B, K, T, D], and
    the sink that stores them.
    """
    info = VariableInfo()
    info.data_shape = ov.PartialShape([-1, heads, -1, head_size])
    info.data_type = ov.Type.f32
    info.variable_id = name
    variable = Variable(info)
    empty = op.concat([op.shape_of(beam_idx), integers(heads, 0, head_size)], axis=0)
    past = op.read_value(op.broadcast(floats(0.0), empty), variable)
    everything = op.concat([op.gather(past, beam_idx, integer(0)), x], axis=2)
    return everything, op.assign(everything, variable)


def repeat_heads(x: Node, repeats: int, heads: int, head_size: int) -> Node:
    """Repeats key/value heads for the query heads: [B, H, T, D].

    One key/value head is left to broadcasting.
    """
    if repeats == 1 or heads == 1:
        return x
    groups = op.broadcast(
        op.unsqueeze(x, integers(2)), integers(1, 1, repeats, 1, 1), broadcast_spec="BIDIRECTIONAL"
    )
    return op.reshape(groups, integers(0, heads * repeats, -1, head_size), special_zero=True)


def causal_mask(input_ids: Node, attention_mask: Node, scores_bias: Node) -> Node:
    """What is added to attention scores, [B, 1 or H, S, T].

    The attention mask [B, T] is zero where a token is padding. `scores_bias` is the value where
    attention is allowed, [B, H, 1, T] or a scalar. OpenVINO recognises ALiBi only here, as the
    third operand of Select.
    """
    length = op.gather(op.shape_of(input_ids), integer(1), integer(0))
    total = op.gather(op.shape_of(attention_mask), integer(1), integer(0))
    keys = op.range(integer(0), total, integer(1), "i64")
    queries = op.unsqueeze(
        op.range(op.subtract(total, length), total, integer(1), "i64"), integers(1)
    )
    later = op.greater(keys, queries)
    padding = op.unsqueeze(op.equal(attention_mask, integer(0)), integers(1, 2))
    return op.select(op.logical_or(later, padding), floats(_BLOCKED), scores_bias)


def alibi_bias(attention_mask: Node, slopes: npt.NDArray[np.float32]) -> Node:
    """ALiBi's bias on the attention scores, [B, H, 1, T].

    The slopes are the first operand and two reshapes follow: so paged attention finds them.
    """
    seen = op.subtract(op.cum_sum(attention_mask, integer(1)), integer(1))
    positions = op.unsqueeze(
        op.convert(op.multiply(seen, attention_mask), ov.Type.f32), integers(1)
    )
    bias = op.multiply(floats(slopes.reshape(1, -1, 1)), positions)
    flat = op.reshape(bias, integers(0, -1), special_zero=True)
    return op.reshape(flat, integers(0, len(slopes), 1, -1), special_zero=True)


def alibi_slopes(num_heads: int, head_size: int) -> npt.NDArray[np.float32]:
    """What a head adds to its scores for each position, [H].

    Rounded to bfloat16 as transformers rounds them (5.23, modeling_falcon.py, build_alibi_tensor);
    divided by sqrt(D) because Falcon scales its scores after adding the bias, whereas attention
    here adds the bias to scores already scaled.
    """
    power = 2 ** math.floor(math.log2(num_heads))
    base = 2.0 ** -(2.0 ** -(math.log2(power) - 3))
    between = 2.0 ** -(2.0 ** -(math.log2(2 * power) - 3))
    slopes = [base**i for i in range(1, power + 1)]
    slopes += [between**i for i in range(1, 2 * (num_heads - power) + 1, 2)]
    rounded = to_float32(from_float32(np.array(slopes, dtype=np.float32), BFLOAT16), BFLOAT16)
    return rounded / np.float32(math.sqrt(head_size))
