"""Blocks that encoders are stacked from, post-norm and pre-norm, and what encoders share around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from octavo.layers.encoder_attention import EncoderAttention, EncoderStep
from octavo.layers.norm import Norm
from octavo.models.spec import ModelSpec
from octavo.models.stream import Reduce, unchanged, whole

EncoderFeedForward = Callable[[torch.Tensor], torch.Tensor]


class EncoderBlock(Protocol):
    """One layer, of `[tokens, hidden]`, which may be overwritten."""

    def __call__(self, x: torch.Tensor, step: EncoderStep) -> torch.Tensor: ...


@dataclass(frozen=True, slots=True)
class PostNormBlock:
    """`x = norm(x + attention(x))`, then `x = norm(x + mlp(x))` (BERT).

    Args:
        reduce: See `whole`.
    """

    attention: EncoderAttention
    attention_norm: Norm
    mlp: EncoderFeedForward
    mlp_norm: Norm
    reduce: Reduce | None = None

    def __call__(self, x: torch.Tensor, step: EncoderStep) -> torch.Tensor:
        """Of `[tokens, hidden]`, which is overwritten."""
        x = self.attention_norm.add(x, whole(self.attention(x, step), self.reduce))
        return self.mlp_norm.add(x, whole(self.mlp(x), self.reduce))


@dataclass(frozen=True, slots=True)
class PreNormEncoderBlock:
    """`x += attention(norm(x))`, then `x += mlp(norm(x))` (ModernBERT).

    Args:
        attention_norm: None where `x` is normalised already.
        reduce: See `whole`.
    """

    attention_norm: Norm | None
    attention: EncoderAttention
    mlp_norm: Norm
    mlp: EncoderFeedForward
    reduce: Reduce | None = None

    def __call__(self, x: torch.Tensor, step: EncoderStep) -> torch.Tensor:
        """Of `[tokens, hidden]`, which is overwritten."""
        normed = x if self.attention_norm is None else self.attention_norm(x)
        normed = self.mlp_norm.add(x, whole(self.attention(normed, step), self.reduce))
        return x.add_(whole(self.mlp(normed), self.reduce))


class EncoderStack:
    """What encoders share: embeddings, blocks, and a head or none. A family adds its `forward`.

    Args:
        embed: Of `[tokens]` int64, `[tokens, hidden]`, in memory of their own.
        head: See `Encoder.head`.
        norm: For a family whose `forward` normalises what comes of the blocks; by default it stays.
    """

    __slots__ = ("_blocks", "embed", "head", "normalise", "spec")

    def __init__(
        self,
        spec: ModelSpec,
        embed: Callable[[torch.Tensor, EncoderStep], torch.Tensor],
        blocks: Sequence[EncoderBlock],
        head: Callable[[torch.Tensor, Sequence[int]], torch.Tensor] | None,
        *,
        norm: Callable[[torch.Tensor], torch.Tensor] = unchanged,
    ) -> None:
        self.spec = spec
        self.head = head
        self.embed = embed
        self.normalise = norm
        self._blocks = blocks

    def run_blocks(self, hidden: torch.Tensor, step: EncoderStep) -> torch.Tensor:
        """Of `[tokens, hidden]`, which is overwritten."""
        for block in self._blocks:
            hidden = block(hidden, step)
        return hidden
