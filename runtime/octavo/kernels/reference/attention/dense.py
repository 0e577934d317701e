"""Dense attention of one sequence in float64: what the paged forms must equal."""

from __future__ import annotations

import torch

from octavo.kernels.attention_options import AttentionOptions


def gather_sequence(
    cache: torch.Tensor, block_table: torch.Tensor, length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of one sequence, `[length, kv_heads, head_dim]` float64."""
    block_size = cache.shape[1]
    blocks = block_table[: -(-length // block_size)].long()
    pages = cache[blocks].double().flatten(0, 1)[:length]
    return pages[:, 0], pages[:, 1]


def attend(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, options: AttentionOptions
) -> torch.Tensor:
    """The last rows of a sequence against all of it, causal; `query` `[rows, query_heads, head_dim]`.

    Returns float64 of the query's shape.
    """
    rows, heads, _ = query.shape
    length, kv_heads, _ = keys.shape
    keys = keys.repeat_interleave(heads // kv_heads, dim=1)
    values = values.repeat_interleave(heads // kv_heads, dim=1)
    positions = torch.arange(length - rows, length, device=query.device)[:, None]
    distance = torch.arange(length, device=query.device)[None, :] - positions
    visible = distance <= 0
    if options.sliding_window is not None:
        visible &= distance > -options.sliding_window
    scores = torch.einsum("qhd,khd->hqk", query.double(), keys) * options.scale
    if options.softcap is not None:
        scores = options.softcap * torch.tanh(scores / options.softcap)
    if options.slopes is not None:
        scores = scores + options.slopes.double()[:, None, None] * distance
    scores = scores.masked_fill(~visible, -torch.inf)
    if options.sinks is not None:
        sinks = options.sinks.double()[:, None, None].expand(heads, rows, 1)
        scores = torch.cat([scores, sinks], dim=-1)
    weights = scores.softmax(dim=-1)[..., :length]
    # A block that the window has left behind may belong to another sequence by now, NaN and all.
    seen = visible.any(dim=0)
    return torch.einsum("hqk,khd->qhd", weights[:, :, seen], values[seen])
