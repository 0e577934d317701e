"""Bidirectional attention (BERT, Devlin et al., 2019) of whole sequences, packed without padding.

Layers with a window (ModernBERT, Warner et al., 2024) cost per token what their window is wide, not the
sequence.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)

from octavo.kernels.attention_options import AttentionOptions
from octavo.layers.linear import Linear
from octavo.layers.rotary import RotaryTable

# Queries of a window's layer that attend as one product: with fewer, the launches cost more than what they
# save; with more, each sees more keys that are masked.
_QUERIES_AT_ONCE = 256


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
        """Each token to all of its own sequence, or in both directions to those within the window: its
        neighbours are fewer than `sliding_window` places away.

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
        rotary: Turns queries and keys; None: the embeddings know positions.
    """

    qkv: Linear
    output: Linear
    head_dim: int
    options: AttentionOptions
    rotary: RotaryTable | None = None

    def __call__(self, x: torch.Tensor, step: EncoderStep) -> torch.Tensor:
        heads = self.qkv(x).view(x.shape[0], -1, self.head_dim)
        if self.rotary is not None:
            num_turning = 2 * heads.shape[1] // 3
            self.rotary.rotate_(heads[:, :num_turning], *self.rotary.at(step.positions))
        return self.output(step.attend(heads, self.options))


def _attend_equals(heads: torch.Tensor, options: AttentionOptions) -> torch.Tensor:
    """Of `[sequences, length, 3, num_heads, head_dim]`."""
    query, key, value = heads.permute(2, 0, 3, 1, 4)
    window, length = options.sliding_window, heads.shape[1]
    if window is None or window >= length:
        attended = F.scaled_dot_product_attention(query, key, value, scale=options.scale)
    else:
        attended = _attend_near(query, key, value, window, options.scale)
    return attended.transpose(1, 2).flatten(2).flatten(0, 1)


def _attend_near(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, window: int, scale: float
) -> torch.Tensor:
    """Of `[sequences, num_heads, length, head_dim]` each, some queries at once."""
    places = torch.arange(query.shape[2])
    parts: list[torch.Tensor] = []
    for queries in torch.split(places, _QUERIES_AT_ONCE):
        first, last = int(queries[0]), int(queries[-1]) + 1
        seen = slice(max(first - window + 1, 0), last + window - 1)
        is_near = (queries[:, None] - places[seen]).abs() < window
        parts.append(
            F.scaled_dot_product_attention(
                query[:, :, first:last], key[:, :, seen], value[:, :, seen], is_near, scale=scale
            )
        )
    return torch.cat(parts, dim=2)
