"""What decides the graph of a decoder: the two families that are built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

# RoPE's base in every published Falcon3 (config.json of 1B, 3B, 7B and 10B), and in no other Llama
# that is known. Fine-tunes keep it, whatever their names and sizes.
FALCON3_ROPE_THETA = 1_000_042.0
# What transformers takes where config.json has no base.
_DEFAULT_ROPE_THETA = 10_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderArchitecture:
    """What both families have.

    Attributes:
        vocab_size: rows of the embedding; token ids are below it.
        num_kv_heads: key/value heads that exist (1 for multi-query, `num_heads` for multi-head).
        head_size: width of a head; all heads together may be wider or narrower than `hidden_size`.
        max_positions: longest sequence, prompt and answer together, that the model was made for.
        rope_theta: base of the rotary frequencies; unused with ALiBi.
        norm_epsilon: what is added to a variance before its root is taken.
        tied_embeddings: the output projection is the embedding matrix.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    ffn_hidden_size: int
    max_positions: int
    rope_theta: float
    norm_epsilon: float
    tied_embeddings: bool

    @property
    def qkv_size(self) -> int:
        """Rows of the query, key and value projections together."""
        return (self.num_heads + 2 * self.num_kv_heads) * self.head_size

    @property
    def attention_size(self) -> int:
        """Width of all heads together."""
        return self.num_heads * self.head_size


@dataclass(frozen=True, slots=True, kw_only=True)
class FalconArchitecture(DecoderArchitecture):
    """FalconForCausalLM: Falcon-RW, Falcon-7B/40B/180B, Falcon2-11B.

    Attributes:
        alibi: positions as ALiBi slopes on the attention scores; otherwise rotary embeddings.
        new_decoder_architecture: query, key and value rows are stored in groups, one group a
            key/value head (Falcon-40B and later).
        parallel_attention: attention and MLP read the same residual stream side by side.
        separate_mlp_norm: the MLP has a layer norm of its own; otherwise it shares the
            attention's, which only parallel attention can do.
    """

    alibi: bool
    new_decoder_architecture: bool
    parallel_attention: bool
    separate_mlp_norm: bool
    bias: bool

    @property
    def family(self) -> str:
        """The published model whose block layout this one has."""
        if self.new_decoder_architecture:
            return "falcon-40b" if self.separate_mlp_norm else "falcon2-11b"
        return "falcon-7b" if self.parallel_attention else "falcon-rw"

    @property
    def mlp_width(self) -> int:
        """Elements a token has inside the MLP: before and after the activation."""
        return 2 * self.ffn_hidden_size


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaArchitecture(DecoderArchitecture):
    """LlamaForCausalLM: Falcon3, and other Llamas.

    Rotary embeddings, RMS norms, separate query, key and value projections, a gated MLP, no biases.
    """

    @property
    def family(self) -> str:
        """`falcon3`, or `llama` for any other."""
        return "falcon3" if self.rope_theta == FALCON3_ROPE_THETA else "llama"

    @property
    def mlp_width(self) -> int:
        """Elements a token has inside the MLP: gate, up and their product."""
        return 3 * self.ffn_hidden_size


Architecture: TypeAlias = FalconArchitecture | LlamaArchitecture


def family_note(architecture: Architecture) -> str | None:
    """What to tell of a model that is built and is no Falcon; None of a Falcon."""
    if architecture.family != "llama":
        return None
    note = (
        f"a Llama that is no Falcon3 (its rope_theta is {architecture.rope_theta:.0f}, theirs"
        f" {FALCON3_ROPE_THETA:.0f}): built as it is, and untested"
    )
    if architecture.rope_theta != _DEFAULT_ROPE_THETA:
        return note
    # transformers 4 drops the base of a checkpoint that transformers 5 saved.
    return f"{note}; if it is a Falcon3, its base was lost: set rope_theta in config.json"
