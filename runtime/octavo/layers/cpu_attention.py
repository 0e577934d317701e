"""Attention on a CPU: decodes by a kernel that reads pages where they lie, prompt chunks in plain torch."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.kernels.cpu.paged_decode import rotate_and_decode
from octavo.kernels.decode_rows import DecodeRows
from octavo.layers.attention import AttentionSpec
from octavo.layers.torch_attention import TorchAttentionStep


@dataclass(frozen=True, slots=True)
class CpuAttentionStep:
    """See `AttentionStep`.

    Args:
        decodes: The first rows of the step.
        rotary_table: `[positions, 2, 1, head_dim]`; see `RotaryTable`.
        rest: Attends the rows after them, of which its plan counts the first as row 0; None without any.
    """

    decodes: DecodeRows
    rotary_table: torch.Tensor
    rest: TorchAttentionStep | None

    def attend(self, heads: torch.Tensor, cache: torch.Tensor, spec: AttentionSpec) -> torch.Tensor:
        out = heads.new_empty(heads.shape[0], spec.num_heads * spec.head_dim)
        norm = spec.head_norm
        rotate_and_decode(
            heads,
            cache,
            self.rotary_table,
            self.decodes,
            spec.options,
            out,
            num_query_heads=spec.num_heads,
            num_kv_heads=spec.num_kv_heads,
            head_norm_weight=None if norm is None else norm.weight,
            eps=0.0 if norm is None else norm.eps,
        )
        if self.rest is not None:
            count = self.decodes.count
            out[count:] = self.rest.attend(heads[count:], cache, spec)
        return out
