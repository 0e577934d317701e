"""Attention on a CPU, by kernels that read pages where they lie: decodes by one, prompt chunks by another,
or by torch where it is faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from octavo.kernels.attention_plan import AttentionPlan
from octavo.kernels.cpu.attention.paged_decode import paged_decode
from octavo.kernels.cpu.attention.paged_prefill import paged_prefill
from octavo.kernels.cpu.attention.rope_and_cache import rope_and_cache
from octavo.kernels.decode_rows import DecodeRows
from octavo.kernels.paged_attention import paged_attention
from octavo.kernels.prefill_chunks import PrefillChunks
from octavo.layers.step import AdapterRows, AttentionSpec, Repeats


@dataclass(frozen=True, slots=True)
class CpuAttentionStep:
    """See `Step`. All rows are stored before any attends: sequences may share blocks.

    Args:
        positions, slots: `[tokens]` int64.
        rotary_tables: The model's, each `[positions, 2, 1, head_dim]`; see `RotaryTable`.
        decodes: The first rows of the step, if they are decodes.
        chunks: The rows after them, if there are any; a plan leaves them to torch, and counts them from 0.
        workspace: For a plan; see `paged_attention`.
    """

    positions: torch.Tensor
    slots: torch.Tensor
    rotary_tables: tuple[torch.Tensor, ...]
    decodes: DecodeRows | None
    chunks: PrefillChunks | AttentionPlan | None
    workspace: torch.Tensor
    adapters: Sequence[AdapterRows] = ()
    rows: torch.Tensor | None = None
    repeats: Repeats | None = None

    @property
    def adapter_tiles(self) -> None:
        """The host multiplies."""
        return None

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
        out = heads.new_empty(heads.shape[0], spec.num_heads * spec.head_dim)
        first = 0
        if self.decodes is not None:
            paged_decode(heads, cache, self.decodes, spec.options, out)
            first = self.decodes.count
        if isinstance(self.chunks, PrefillChunks):
            paged_prefill(heads[first:], cache, self.chunks, spec.options, out[first:])
        elif self.chunks is not None:
            heads = heads[first:]
            kv = heads[:, spec.num_heads :].view(-1, 2, spec.num_kv_heads, spec.head_dim)
            out[first:] = paged_attention(
                heads[:, : spec.num_heads],
                kv,
                cache,
                self.chunks,
                options=spec.options,
                workspace=self.workspace,
            )
        return out
