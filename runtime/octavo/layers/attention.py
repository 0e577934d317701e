"""Grouped-query self-attention over the paged KV cache, between its two products.

How queries meet keys differs by device; a step brings that with it (`AttentionStep`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from octavo.kernels.attention_options import AttentionOptions
from octavo.layers.linear import Linear
from octavo.layers.norm import HeadNorm


@dataclass(frozen=True, slots=True)
class AttentionSpec:
    """Constant per layer.

    Args:
        head_norm: Normalises queries and keys per head before rotation (Qwen3), or None.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    options: AttentionOptions
    head_norm: HeadNorm | None = None


class AttentionStep(Protocol):
    """One step of the engine, as layers see it: which rows attend to which blocks, and which are padding."""

    @property
    def num_live(self) -> torch.Tensor | None:
        """`[1]` int32 on the device: rows from there on are padding; None: none is."""
        ...

    def attend(self, heads: torch.Tensor, cache: torch.Tensor, spec: AttentionSpec) -> torch.Tensor:
        """Normalises and rotates queries and keys, stores keys and values, and attends.

        Args:
            heads: `[tokens, num_heads + 2 * num_kv_heads, head_dim]`: queries, keys, values; overwritten.
            cache: The layer's, `[num_blocks, block_size, 2, num_kv_heads, head_dim]`.

        Returns `[tokens, num_heads * head_dim]`.
        """
        ...


class Attention:
    """`[tokens, hidden] -> [tokens, hidden]`.

    Args:
        qkv: Computes queries, keys and values side by side.
        output: From `[tokens, num_heads * head_dim]` back to the hidden width.
    """

    __slots__ = ("output", "qkv", "spec")

    def __init__(self, qkv: Linear, output: Linear, spec: AttentionSpec) -> None:
        self.qkv = qkv
        self.output = output
        self.spec = spec

    def __call__(self, x: torch.Tensor, cache: torch.Tensor, step: AttentionStep) -> torch.Tensor:
        return self.output(self.attend(self.qkv(x), cache, step))

    def attend(self, heads: torch.Tensor, cache: torch.Tensor, step: AttentionStep) -> torch.Tensor:
        """What lies between the products: `[tokens, queries, keys and values]`, side by side, to
        `[tokens, num_heads * head_dim]`."""
        return step.attend(heads.view(heads.shape[0], -1, self.spec.head_dim), cache, self.spec)
