"""The shape of a Falcon model, free of any file format."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FalconArchitecture:
    """Everything that decides the graph of a Falcon decoder.

    Attributes:
        vocab_size: rows of the embedding; token ids are below it.
        num_kv_heads: key/value heads that exist (1 for multi-query, `num_heads` for multi-head).
        max_positions: longest sequence, prompt and answer together, that the model was made for.
        alibi: positions as ALiBi slopes on the attention scores; otherwise rotary embeddings.
        rope_theta: base of the rotary frequencies; unused with ALiBi.
        new_decoder_architecture: query, key and value rows are stored in groups, one group a
            key/value head (Falcon-40B and later).
        parallel_attention: attention and MLP read the same residual stream side by side.
        separate_mlp_norm: the MLP has a layer norm of its own; otherwise it shares the
            attention's, which only parallel attention can do.
        bias: the linear layers have biases.
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
    alibi: bool
    rope_theta: float
    new_decoder_architecture: bool
    parallel_attention: bool
    separate_mlp_norm: bool
    bias: bool
    layer_norm_epsilon: float
    tied_embeddings: bool

    @property
    def family(self) -> str:
        """The published model whose block layout this one has."""
        if self.new_decoder_architecture:
            return "falcon-40b" if self.separate_mlp_norm else "falcon2-11b"
        return "falcon-7b" if self.parallel_attention else "falcon-rw"

    @property
    def qkv_size(self) -> int:
        """Rows of the fused query/key/value projection."""
        return (self.num_heads + 2 * self.num_kv_heads) * self.head_size
