"""Which rows of a step attend to which blocks: worked out once, used by every layer.

A step's rows are laid out as decodes first (one row each, longest context first), then prefill chunks.
The plan groups decodes of similar context so that padding stays small, and packs short fresh prompts
together so that a burst of them is one product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

# Fresh prompts are packed into one masked product up to this many rows: below it a call per prompt costs
# more than the masked-out part of the scores. 256 made a 0.6B model's prefill of 8 x 64 tokens 15 % slower.
_MAX_PACKED_ROWS = 64
# A decode joins a group if its context is at least this share of the group's longest.
_MIN_GROUP_SHARE = 0.5
# Rows of a chunk are cut where their mask would hold more entries: a chunk of 2,048 rows over 128k tokens
# of context would need a gibibyte.
_MAX_MASK_ELEMENTS = 2**22
# Contexts up to this many blocks are grouped whatever their ratio.
_SMALL_CONTEXT_BLOCKS = 8


@dataclass(frozen=True, slots=True)
class SequenceSpan:
    """One sequence's part of a step.

    Args:
        num_rows: Tokens that run now.
        context_length: Tokens in the cache after this step, so those before it plus `num_rows`.
        block_ids: Its block table.
    """

    num_rows: int
    context_length: int
    block_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class DecodeGroup:
    """Rows `[first, last)`, one per sequence, that attend to the same padded context length.

    Args:
        block_ids: `[rows * blocks]` int64, rows of the padded block tables one after another.
        length: Keys to look at: the longest context of the group.
        mask: `[rows, 1, 1, length]` added to the scores, or None when all contexts are `length` long.
    """

    first: int
    last: int
    block_ids: torch.Tensor
    length: int
    mask: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class FreshPrefill:
    """Rows `[first, last)` of prompts that start here: their keys are this step's own.

    `mask` is `[rows, rows]`, None for a single prompt, which is plainly causal.
    """

    first: int
    last: int
    mask: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class ContinuedPrefill:
    """Rows `[first, last)` of one prompt whose beginning is in the cache already; a part of a chunk.

    `mask` is `[rows, length]`; `block_ids` `[blocks]` int64 covers `length` keys.
    """

    first: int
    last: int
    block_ids: torch.Tensor
    length: int
    mask: torch.Tensor


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """Everything that attention needs of a step besides queries, keys and values.

    Args:
        slots: `[tokens]` int64: where each row's key and value go, `block * block_size + offset`.
        work: Covers the rows `[0, tokens)` in order, without gaps.
        workspace_blocks: Blocks that the largest gather reads.
    """

    slots: torch.Tensor
    work: tuple[DecodeGroup | FreshPrefill | ContinuedPrefill, ...]
    workspace_blocks: int


def plan_attention(
    spans: Sequence[SequenceSpan],
    slots: torch.Tensor,
    *,
    block_size: int,
    dtype: torch.dtype,
    device: torch.device,
) -> AttentionPlan:
    """Plans one step.

    Args:
        spans: In the rows' order: those of one row first, longest context first, then the others.
        slots: As in `AttentionPlan`.
        dtype: Of the masks, which is that of the queries.
    """
    work: list[DecodeGroup | FreshPrefill | ContinuedPrefill] = []
    num_decodes = next(
        (i for i, span in enumerate(spans) if span.num_rows > 1 or span.context_length == 1),
        len(spans),
    )
    row = 0
    for group in _similar_contexts(spans[:num_decodes], block_size):
        work.append(_decode_group(group, row, block_size, dtype, device))
        row += len(group)
    fresh: list[int] = []  # row counts of fresh prompts that wait to be packed
    for span in spans[num_decodes:]:
        is_fresh = span.context_length == span.num_rows
        if fresh and (not is_fresh or sum(fresh) + span.num_rows > _MAX_PACKED_ROWS):
            work.append(_fresh_prefill(fresh, row, dtype, device))
            row += sum(fresh)
            fresh = []
        if is_fresh:
            fresh.append(span.num_rows)
        else:
            work += _continued_prefill(span, row, block_size, dtype, device)
            row += span.num_rows
    if fresh:
        work.append(_fresh_prefill(fresh, row, dtype, device))
    gathers = [w.block_ids.numel() for w in work if not isinstance(w, FreshPrefill)]
    return AttentionPlan(slots, tuple(work), max(gathers, default=0))


def _similar_contexts(spans: Sequence[SequenceSpan], block_size: int) -> list[list[SequenceSpan]]:
    groups: list[list[SequenceSpan]] = []
    least = 0.0
    for span in spans:
        if not groups or span.context_length < least:
            groups.append([])
            least = span.context_length * _MIN_GROUP_SHARE
            if span.context_length <= _SMALL_CONTEXT_BLOCKS * block_size:
                least = 0.0
        groups[-1].append(span)
    return groups


def _decode_group(
    group: Sequence[SequenceSpan],
    first: int,
    block_size: int,
    dtype: torch.dtype,
    device: torch.device,
) -> DecodeGroup:
    length = group[0].context_length
    blocks = -(-length // block_size)
    if len(group) == 1:
        ids = torch.tensor(group[0].block_ids[:blocks], dtype=torch.int64).to(device)
        return DecodeGroup(first, first + 1, ids, length, None)
    table = np.empty((len(group), blocks), dtype=np.int64)
    contexts = np.empty(len(group), dtype=np.int64)
    for index, span in enumerate(group):
        own = min(len(span.block_ids), blocks)
        table[index, :own] = span.block_ids[:own]
        # Padding repeats a block of the sequence's own: another sequence's NaN must not reach it
        # (a masked weight of zero times NaN is NaN).
        table[index, own:] = span.block_ids[own - 1]
        contexts[index] = span.context_length
    mask = None
    if contexts[-1] != length:
        beyond = np.arange(length)[None, :] >= contexts[:, None]
        bias = np.where(beyond, np.float32(-np.inf), np.float32(0.0))
        mask = torch.from_numpy(bias).to(device=device, dtype=dtype)[:, None, None, :]
    ids = torch.from_numpy(table.reshape(-1)).to(device)
    return DecodeGroup(first, first + len(group), ids, length, mask)


def _fresh_prefill(
    row_counts: Sequence[int], first: int, dtype: torch.dtype, device: torch.device
) -> FreshPrefill:
    total = sum(row_counts)
    if len(row_counts) == 1:
        return FreshPrefill(first, first + total, None)
    owner = np.repeat(np.arange(len(row_counts)), row_counts)
    allowed = (owner[:, None] == owner[None, :]) & np.tri(total, dtype=bool)
    return FreshPrefill(first, first + total, _bias(allowed, dtype, device))


def _continued_prefill(
    span: SequenceSpan, first: int, block_size: int, dtype: torch.dtype, device: torch.device
) -> list[ContinuedPrefill]:
    before = span.context_length - span.num_rows
    rows_at_once = max(_MAX_MASK_ELEMENTS // span.context_length, 1)
    parts = []
    for start in range(0, span.num_rows, rows_at_once):
        rows = min(rows_at_once, span.num_rows - start)
        length = before + start + rows
        ids = torch.tensor(span.block_ids[: -(-length // block_size)], dtype=torch.int64).to(device)
        allowed = np.tri(rows, length, length - rows, dtype=bool)
        mask = _bias(allowed, dtype, device)
        parts.append(ContinuedPrefill(first + start, first + start + rows, ids, length, mask))
    return parts


def _bias(allowed: np.ndarray, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    bias = np.where(allowed, np.float32(0.0), np.float32(-np.inf))
    return torch.from_numpy(bias).to(device=device, dtype=dtype)
