"""Random batches over a paged cache in which everything that must not be read is NaN."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .rounding import FLOATS, tolerance


@dataclass(frozen=True)
class PagedBatch:
    """Arguments of the attention kernels; `out` is NaN."""

    query: torch.Tensor
    cache: torch.Tensor
    block_tables: torch.Tensor
    context_lens: torch.Tensor
    query_start: torch.Tensor
    out: torch.Tensor


def paged_batch(
    context_lens: list[int],
    query_lens: list[int],
    *,
    heads: int,
    kv_heads: int,
    head_dim: int,
    page: int,
    dtype: torch.dtype,
    cache_dtype: torch.dtype | None = None,
    window: int | None = None,
    padding_rows: int = 0,
    seed: int = 0,
) -> PagedBatch:
    """Sequences own scattered blocks of the cache; all others hold NaN, and so do slots past a context and
    whole blocks before every query's window."""
    generator = torch.Generator().manual_seed(seed)
    counts = [-(-length // page) for length in context_lens]
    order = torch.randperm(2 * sum(counts) + 2, generator=generator)
    cache = torch.full((len(order), page, 2, kv_heads, head_dim), torch.nan)
    tables = torch.full(
        (len(context_lens), max([*counts, 1]) + 1), int(order[-1]), dtype=torch.int32
    )
    taken = 0
    for row, (length, count, rows) in enumerate(zip(context_lens, counts, query_lens, strict=True)):
        own = order[taken : taken + count]
        taken += count
        tables[row, :count] = own
        tokens = torch.full((count * page, 2, kv_heads, head_dim), torch.nan)
        seen = 0 if window is None else max(length - max(rows, 1) + 1 - window, 0)
        tokens[seen:length] = torch.randn(length - seen, 2, kv_heads, head_dim, generator=generator)
        cache[own] = tokens.view(count, page, 2, kv_heads, head_dim)
    total = sum(query_lens) + padding_rows
    query = torch.randn(total, heads, head_dim, generator=generator).to(dtype)
    starts = torch.tensor([0, *query_lens]).cumsum(0).to(torch.int32)
    return PagedBatch(
        query,
        cache.to(cache_dtype or dtype),
        tables,
        torch.tensor(context_lens, dtype=torch.int32),
        starts,
        torch.full_like(query, torch.nan),
    )


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Of the largest row; NaN counts as infinite."""
    difference = (actual.double() - expected.double()).norm(dim=-1)
    scale = expected.double().norm(dim=-1).clamp_min(1e-3)
    return float((difference / scale).nan_to_num(torch.inf).max())


VALUES_OF_HEADS = (None, None, "slopes", "sinks")
"""What heads may have of their own; see `values_of_heads`."""


def values_of_heads(kind: str | None, heads: int) -> dict[str, torch.Tensor]:
    """Of `AttentionOptions`: slopes, of which the first is 0, or sinks, of which the first weighs most."""
    falling = torch.linspace(0.0, 0.4, heads) if kind == "slopes" else torch.linspace(6, -4, heads)
    return {} if kind is None else {kind: falling}


# Rounded are the weights and the output. Values average out in a sum where the errors of their weights need
# not: what is left of one may count double.
TOLERANCE = {dtype: tolerance(dtype, 3) for dtype in FLOATS}
