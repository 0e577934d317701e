"""Attention by kernels that find their rows and blocks on the device: the form for GPUs.

Nothing here depends on values: the same launches serve every step of the same shape, which is what a CUDA
graph records.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from octavo.kernels.adapter_tiles import AdapterTiles
from octavo.kernels.protocols.device import DeviceKernels
from octavo.kernels.step_state import StepBuffers, chunks_at
from octavo.layers.step import AdapterRows, AttentionSpec


class DecodeWorkspaces:
    """Memory that decodes work in, one for each length of sliding window, kept for the whole process.

    See `make_decode_workspace` for the arguments.
    """

    def __init__(
        self,
        kernels: DeviceKernels,
        *,
        max_seqs: int,
        num_query_heads: int,
        num_kv_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        cache_dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        def make() -> Any:
            return kernels.make_decode_workspace(
                max_seqs,
                num_query_heads,
                num_kv_heads,
                head_dim,
                dtype=dtype,
                cache_dtype=cache_dtype,
                device=device,
            )

        self._make = make
        self._by_window: dict[int | None, Any] = {None: make()}

    def of(self, sliding_window: int | None) -> Any:
        if sliding_window not in self._by_window:
            self._by_window[sliding_window] = self._make()
        return self._by_window[sliding_window]


@dataclass(frozen=True, slots=True)
class TritonAttentionStep:
    """See `Step`. Decodes, one row each, come first; the rows of prompt chunks follow.

    Args:
        rotary_tables: The model's, each `[positions, 2, 1, head_dim]`; see `RotaryTable`.
        buffers: Filled for this step before the layers run.
        num_decodes: Padding included.
        max_query_len: Of the longest chunk, in rows.
        adapter_tiles: Rows that have an adapter; None: none has.
        scheduled: Sliding windows whose decodes were scheduled in this step.
    """

    kernels: DeviceKernels
    rotary_tables: tuple[torch.Tensor, ...]
    buffers: StepBuffers
    workspaces: DecodeWorkspaces
    num_decodes: int
    num_chunks: int
    max_query_len: int
    adapter_tiles: AdapterTiles | None = None
    scheduled: set[int | None] = field(default_factory=set)

    @property
    def adapters(self) -> tuple[AdapterRows, ...]:
        """The device looks them up."""
        return ()

    @property
    def rows(self) -> None:
        """Steps are captured whole."""
        return None

    @property
    def repeats(self) -> None:
        """CUDA graphs do it here."""
        return None

    @property
    def num_live(self) -> torch.Tensor:
        return self.buffers.num_live

    @property
    def positions(self) -> torch.Tensor:
        return self.buffers.positions

    def attend(self, heads: torch.Tensor, cache: torch.Tensor, spec: AttentionSpec) -> torch.Tensor:
        tokens = heads.shape[0]
        self.kernels.rope_and_cache(
            heads,
            cache,
            self.rotary_tables[spec.rotary],
            self.buffers.positions[:tokens],
            self.buffers.slots[:tokens],
            num_query_heads=spec.num_heads,
            num_kv_heads=spec.num_kv_heads,
            head_norm_weight=None if spec.head_norm is None else spec.head_norm.weight,
            eps=1e-6 if spec.head_norm is None else spec.head_norm.eps,
        )
        query = heads[:, : spec.num_heads]
        out = heads.new_empty((tokens, spec.num_heads, spec.head_dim))
        if self.num_decodes:
            self._decode(query, cache, out, spec)
        if self.num_chunks:
            self._prefill(query, cache, out, spec)
        return out.view(tokens, -1)

    def _decode(
        self, query: torch.Tensor, cache: torch.Tensor, out: torch.Tensor, spec: AttentionSpec
    ) -> None:
        count, window = self.num_decodes, spec.options.sliding_window
        context_lens = self.buffers.context_lens[:count]
        workspace = self.workspaces.of(window)
        if window not in self.scheduled:
            self.kernels.schedule_decode(context_lens, workspace, window)
            self.scheduled.add(window)
        self.kernels.paged_decode(
            query[:count],
            cache,
            self.buffers.block_tables[:count],
            context_lens,
            out[:count],
            workspace,
            spec.options,
        )

    def _prefill(
        self, query: torch.Tensor, cache: torch.Tensor, out: torch.Tensor, spec: AttentionSpec
    ) -> None:
        first = chunks_at(self.num_decodes)
        last = first + self.num_chunks
        self.kernels.paged_prefill(
            query[self.num_decodes :],
            cache,
            self.buffers.block_tables[first:last],
            self.buffers.context_lens[first:last],
            self.buffers.query_start[first : last + 1],
            out[self.num_decodes :],
            self.max_query_len,
            spec.options,
        )
