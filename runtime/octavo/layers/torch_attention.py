"""Attention in plain torch, after a plan that the host made: the form for CPUs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from octavo.kernels.attention_plan import AttentionPlan
from octavo.kernels.paged_attention import paged_attention, write_kv_cache
from octavo.layers.rotary import RotaryTable
from octavo.layers.step import AdapterRows, AttentionSpec


@dataclass(frozen=True, slots=True)
class TorchAttentionStep:
    """See `Step`.

    Args:
        plan: Rows, blocks and masks.
        positions: `[tokens]` int64.
        rotations: Of each of the model's rotary tables, itself, and cos and sin of the rows' positions,
            `[tokens, 1, head_dim]` each.
        workspace: Scratch for gathered blocks; see `paged_attention`.
    """

    plan: AttentionPlan
    positions: torch.Tensor
    rotations: tuple[tuple[RotaryTable, torch.Tensor, torch.Tensor], ...]
    workspace: torch.Tensor
    adapters: Sequence[AdapterRows] = ()
    rows: torch.Tensor | None = None

    @property
    def adapter_tiles(self) -> None:
        """The host multiplies."""
        return None

    @property
    def num_live(self) -> None:
        """No row is padding."""
        return None

    @property
    def repeats(self) -> None:
        return None

    def attend(self, heads: torch.Tensor, cache: torch.Tensor, spec: AttentionSpec) -> torch.Tensor:
        rotated = heads[:, : spec.num_heads + spec.num_kv_heads]  # queries and keys
        if spec.head_norm is not None:
            rotated.copy_(spec.head_norm(rotated))
        table, cos, sin = self.rotations[spec.rotary]
        table.rotate_(rotated, cos, sin)
        kv = heads[:, spec.num_heads :].view(-1, 2, spec.num_kv_heads, spec.head_dim)
        kv = write_kv_cache(cache, kv, self.plan.slots)
        return paged_attention(
            heads[:, : spec.num_heads],
            kv,
            cache,
            self.plan,
            options=spec.options,
            workspace=self.workspace,
        )
