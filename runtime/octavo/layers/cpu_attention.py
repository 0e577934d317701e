"""Attention on a CPU: decodes by a kernel that reads pages where they lie, prompt chunks in plain torch."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.kernels.attention_plan import AttentionPlan
from octavo.kernels.cpu.attention.paged_decode import paged_decode
from octavo.kernels.cpu.attention.rope_and_cache import rope_and_cache
from octavo.kernels.decode_rows import DecodeRows
from octavo.kernels.paged_attention import paged_attention
from octavo.layers.step import AttentionSpec


@dataclass(frozen=True, slots=True)
class CpuAttentionStep:
    """See `Step`. All rows are stored before any attends: sequences may share blocks.

    Args:
        positions, slots: `[tokens]` int64.
        rotary_tables: The model's, each `[positions, 2, 1, head_dim]`; see `RotaryTable`.
        decodes: The first rows of the step, if they are decodes.
        plan: Of the rows after them, the first of which is its row 0; without work if there are none.
        workspace: See `paged_attention`.
    """

    positions: torch.Tensor
    slots: torch.Tensor
    rotary_tables: tuple[torch.Tensor, ...]
    decodes: DecodeRows | None
    plan: AttentionPlan
    workspace: torch.Tensor

    @property
    def num_live(self) -> None:
        """No row is padding."""
        return None

    def attend(self, heads: torch.Tensor, cache: torch.Tensor, spec: AttentionSpec) -> torch.Tensor:
        norm = spec.head_norm
        rope_and_cache(
            heads,
            cache,
            self.rotary_tables[spec.rotary],
            self.positions,
            self.slots,
            num_query_heads=spec.num_heads,
            num_kv_heads=spec.num_kv_heads,
            head_norm_weight=None if norm is None else norm.weight,
            eps=0.0 if norm is None else norm.eps,
        )
        if self.decodes is None:
            return self._attend_chunks(heads, cache, spec)
        out = heads.new_empty(heads.shape[0], spec.num_heads * spec.head_dim)
        paged_decode(heads, cache, self.decodes, spec.options, out)
        if self.plan.work:
            first = self.decodes.count
            out[first:] = self._attend_chunks(heads[first:], cache, spec)
        return out

    def _attend_chunks(
        self, heads: torch.Tensor, cache: torch.Tensor, spec: AttentionSpec
    ) -> torch.Tensor:
        kv = heads[:, spec.num_heads :].view(-1, 2, spec.num_kv_heads, spec.head_dim)
        return paged_attention(
            heads[:, : spec.num_heads],
            kv,
            cache,
            self.plan,
            options=spec.options,
            workspace=self.workspace,
        )
