"""Bidirectional attention (BERT, Devlin et al., 2019) of whole sequences, packed without padding."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)

from octavo.kernels.attention_options import AttentionOptions
from octavo.layers.linear import Linear


@dataclass(frozen=True, slots=True)
class EncoderStep:
    """Whole sequences, one behind another; those of equal length stand together.

    Args:
        positions: `[tokens]` int64, each token's place in its sequence.
        segments: `[tokens]` int64: 1 in the second text of a pair, else 0.
        lengths: Tokens of each sequence.
    """

    positions: torch.Tensor
    segments: torch.Tensor
    lengths: tuple[int, ...]

    def attend(self, heads: torch.Tensor, options: AttentionOptions) -> torch.Tensor:
        """Each token to all of its own sequence.

        Args:
            heads: `[tokens, 3 * num_heads, head_dim]`: queries, keys, values.

        Returns `[tokens, num_heads * head_dim]`.
        """
        parts, first = [], 0
        for length, group in itertools.groupby(self.lengths):
            count = sum(1 for _ in group)
            rows = heads[first : first + count * length]
            parts.append(_attend_equals(rows.view(count, length, 3, -1, heads.shape[-1]), options))
            first += count * length
        return torch.cat(parts) if len(parts) > 1 else parts[0]


@dataclass(frozen=True, slots=True)
class EncoderAttention:
    """`[tokens, hidden] -> [tokens, hidden]`.

    Args:
        qkv: Computes queries, keys and values side by side.
        output: From `[tokens, num_heads * head_dim]` back to the hidden width.
    """

    qkv: Linear
    output: Linear
    head_dim: int
    options: AttentionOptions

    def __call__(self, x: torch.Tensor, step: EncoderStep) -> torch.Tensor:
        heads = self.qkv(x).view(x.shape[0], -1, self.head_dim)
        return self.output(step.attend(heads, self.options))


def _attend_equals(heads: torch.Tensor, options: AttentionOptions) -> torch.Tensor:
    """Of `[sequences, length, 3, num_heads, head_dim]`."""
    query, key, value = heads.permute(2, 0, 3, 1, 4)
    attended = F.scaled_dot_product_attention(query, key, value, scale=options.scale)
    return attended.transpose(1, 2).flatten(2).flatten(0, 1)
