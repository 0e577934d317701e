"""Attention of a `PagedBatch`: what a kernel makes of it, and what it must be."""

from __future__ import annotations

from dataclasses import replace

import torch

from octavo.kernels.attention_options import AttentionOptions
from octavo.kernels.gpu.attention.decode_schedule import make_decode_workspace, schedule_decode
from octavo.kernels.gpu.attention.paged_decode import paged_decode
from octavo.kernels.gpu.attention.paged_prefill import paged_prefill
from octavo.kernels.reference.attention.paged_decode import paged_decode as reference_decode
from octavo.kernels.reference.attention.paged_prefill import paged_prefill as reference_prefill
from tests.support.kernels.paged_batches import PagedBatch


def exact_decode(batch: PagedBatch, options: AttentionOptions) -> torch.Tensor:
    out = torch.empty(batch.query.shape, dtype=torch.float64)
    reference_decode(
        batch.query, batch.cache, batch.block_tables, batch.context_lens, out, None, options
    )
    return out


def decode(
    batch: PagedBatch,
    options: AttentionOptions,
    device: torch.device,
    processors: int = 4,
    launches: int = 1,
) -> torch.Tensor:
    """The kernel's output; `processors` decides how finely contexts are cut."""

    def to(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device)

    _, heads, head_dim = batch.query.shape
    workspace = make_decode_workspace(
        len(batch.context_lens) + 1,
        heads,
        batch.cache.shape[3],
        head_dim,
        dtype=batch.query.dtype,
        cache_dtype=batch.cache.dtype,
        device=device,
        num_multiprocessors=processors,
    )
    workspace.partial.fill_(torch.nan)
    out = to(batch.out)
    context_lens = to(batch.context_lens)
    schedule_decode(context_lens, workspace, options.sliding_window)
    for _ in range(launches):
        out.fill_(torch.nan)
        paged_decode(
            to(batch.query),
            to(batch.cache),
            to(batch.block_tables),
            context_lens,
            out,
            workspace,
            _on(device, options),
        )
    return out.cpu()


def exact_prefill(batch: PagedBatch, options: AttentionOptions) -> torch.Tensor:
    out = torch.full(batch.query.shape, torch.nan, dtype=torch.float64)
    reference_prefill(
        batch.query,
        batch.cache,
        batch.block_tables,
        batch.context_lens,
        batch.query_start,
        out,
        len(batch.query),
        options,
    )
    return out


def prefill(batch: PagedBatch, options: AttentionOptions, device: torch.device) -> torch.Tensor:
    out = batch.out.to(device)
    paged_prefill(
        batch.query.to(device),
        batch.cache.to(device),
        batch.block_tables.to(device),
        batch.context_lens.to(device),
        batch.query_start.to(device),
        out,
        int(batch.query_start.diff().max()),
        _on(device, options),
    )
    return out.cpu()


def _on(device: torch.device, options: AttentionOptions) -> AttentionOptions:
    values = {name: getattr(options, name) for name in ("slopes", "sinks")}
    there = {name: one.to(device) for name, one in values.items() if one is not None}
    return replace(options, **there)
