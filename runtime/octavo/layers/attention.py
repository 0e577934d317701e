"""Grouped-query self-attention over the paged KV cache, between its two products."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.layers.linear import Linear
from octavo.layers.step import AttentionSpec, Step


@dataclass(frozen=True, slots=True)
class Attention:
    """`[tokens, hidden] -> [tokens, hidden]`; what comes out is a partial sum where `output` is sharded.

    Args:
        qkv: Computes queries, keys and values side by side.
        output: From `[tokens, num_heads * head_dim]` back to the hidden width.
    """

    qkv: Linear
    output: Linear
    spec: AttentionSpec

    def __call__(self, x: torch.Tensor, cache: torch.Tensor, step: Step) -> torch.Tensor:
        return self.output(self.attend(self.qkv(x, step), cache, step), step)

    def attend(self, heads: torch.Tensor, cache: torch.Tensor, step: Step) -> torch.Tensor:
        """What lies between the products: `[tokens, queries, keys and values]`, side by side, to
        `[tokens, num_heads * head_dim]`."""
        return step.attend(heads.view(heads.shape[0], -1, self.spec.head_dim), cache, self.spec)
