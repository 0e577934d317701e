"""Grouped-query self-attention with rotary positions over the paged KV cache."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.kernels.attention_plan import AttentionPlan
from octavo.kernels.paged_attention import paged_attention, write_kv_cache
from octavo.layers.linear import Linear
from octavo.layers.norm import HeadNorm
from octavo.layers.rotary import RotaryTable


@dataclass(frozen=True, slots=True)
class AttentionStep:
    """What all layers share in one step.

    Args:
        plan: Rows, blocks and masks.
        rotary: Its table rotates queries and keys.
        cos, sin: `[tokens, 1, head_dim]`, of the rows' positions.
        workspace: Scratch for gathered blocks; see `paged_attention`.
    """

    plan: AttentionPlan
    rotary: RotaryTable
    cos: torch.Tensor
    sin: torch.Tensor
    workspace: torch.Tensor


class Attention:
    """`[tokens, hidden] -> [tokens, hidden]`.

    Args:
        qkv: Computes queries, keys and values side by side.
        output: From `[tokens, query_heads * head_dim]` back to the hidden width.
        head_norm: Normalises queries and keys per head before rotation (Qwen3), or None.
    """

    __slots__ = (
        "_head_dim",
        "_head_norm",
        "_num_heads",
        "_num_kv_heads",
        "_output",
        "_qkv",
        "_scale",
    )

    def __init__(
        self,
        qkv: Linear,
        output: Linear,
        *,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        head_norm: HeadNorm | None,
    ) -> None:
        self._qkv = qkv
        self._output = output
        self._num_heads = num_heads
        self._num_kv_heads = num_kv_heads
        self._head_dim = head_dim
        self._head_norm = head_norm
        self._scale = head_dim**-0.5

    def __call__(self, x: torch.Tensor, cache: torch.Tensor, step: AttentionStep) -> torch.Tensor:
        heads = self._qkv(x).view(x.shape[0], -1, self._head_dim)
        rotated = heads[:, : self._num_heads + self._num_kv_heads]  # queries and keys
        if self._head_norm is not None:
            rotated.copy_(self._head_norm(rotated))
        step.rotary.rotate_(rotated, step.cos, step.sin)
        kv = heads[:, self._num_heads :].view(-1, 2, self._num_kv_heads, self._head_dim)
        write_kv_cache(cache, kv, step.plan.slots)
        attended = paged_attention(
            heads[:, : self._num_heads],
            kv,
            cache,
            step.plan,
            scale=self._scale,
            workspace=step.workspace,
        )
        return self._output(attended)
