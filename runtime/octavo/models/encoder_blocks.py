"""Blocks that encoders are stacked from: post-norm residual."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.layers.encoder_attention import EncoderAttention, EncoderStep
from octavo.layers.mlp import PlainMLP
from octavo.layers.norm import Norm


@dataclass(frozen=True, slots=True)
class PostNormBlock:
    """`x = norm(x + attention(x))`, then `x = norm(x + mlp(x))` (BERT)."""

    attention: EncoderAttention
    attention_norm: Norm
    mlp: PlainMLP
    mlp_norm: Norm

    def __call__(self, x: torch.Tensor, step: EncoderStep) -> torch.Tensor:
        """Of `[tokens, hidden]`, which is overwritten."""
        x = self.attention_norm.add(x, self.attention(x, step))
        return self.mlp_norm.add(x, self.mlp(x))
