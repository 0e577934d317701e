"""Attention plan. Which rows of a step attend to which blocks: worked out once, used by every layer.

A step's rows are laid out as decodes first (one row each, longest context first), then prefill chunks.
The plan groups decodes of similar context so that padding stays small, and packs short fresh prompts
together so that a burst of them is one product. A sliding window gets work of its own, which leaves out
the blocks that no row of it sees; they stay allocated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
# A windowed prompt is cut into parts of this many rows or one window, whichever is more: each part reads
# the keys of one window beside its own.
_MIN_WINDOWED_ROWS = 256
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
        block_ids: `[rows * blocks]` int64, rows of the padded block tables one after another, each from
            the first block that its row sees.
        length: Keys to look at: the most that a row of the group has.
        mask: `[rows, 1, 1, length]` added to the scores, or None when every row sees all `length`.
        unowned: `[keys]` int64 or None, indices into all gathered keys, `rows * blocks * block_size`: those
            that another sequence may have written. A mask does not hide their NaN.
    """

    first: int
    last: int
    block_ids: torch.Tensor
    length: int
    mask: torch.Tensor | None
    unowned: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class FreshPrefill:
    """Rows `[first, last)` of prompts that start here: their keys are this step's own.

    `row_counts` are the prompts', `mask` is `[rows, rows]`, None for a single one, which is plainly causal.
    """

    first: int
    last: int
    row_counts: tuple[int, ...]
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


Work = DecodeGroup | FreshPrefill | ContinuedPrefill


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """Everything that attention needs of a step besides queries, keys and values.

    Args:
        slots: `[tokens]` int64: where each row's key and value go, `block * block_size + offset`.
        work: Covers the rows `[0, tokens)` in order, without gaps.
        workspace_blocks: Blocks that the largest gather reads.
        windowed: The same as `work` for each sliding window.
    """

    slots: torch.Tensor
    work: tuple[Work, ...]
    workspace_blocks: int
    windowed: Mapping[int, tuple[Work, ...]] = field(default_factory=dict)

    def within(self, window: int | None) -> tuple[Work, ...]:
        """The work of a layer with this sliding window, which the plan was made for."""
        return self.work if window is None else self.windowed[window]


def plan_attention(
    spans: Sequence[SequenceSpan],
    slots: torch.Tensor,
    *,
    block_size: int,
    dtype: torch.dtype,
    device: torch.device,
    windows: Sequence[int] = (),
) -> AttentionPlan:
    """Plans one step.

    Args:
        spans: In the rows' order: those of one row first, longest context first, then the others.
        slots: As in `AttentionPlan`.
        dtype: Of the masks, which is that of the queries.
        windows: The sliding windows that layers have.
    """
    longest = max((span.context_length for span in spans), default=0)
    work = _plan(spans, None, block_size, dtype, device)
    windowed = {
        window: _plan(spans, window, block_size, dtype, device) if window < longest else work
        for window in set(windows)
    }
    gathers = [
        one.block_ids.numel()
        for each in (work, *windowed.values())
        for one in each
        if not isinstance(one, FreshPrefill)
    ]
    return AttentionPlan(slots, work, max(gathers, default=0), windowed)


def _plan(
    spans: Sequence[SequenceSpan],
    window: int | None,
    block_size: int,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Work, ...]:
    work: list[Work] = []
    num_decodes = next(
        (i for i, span in enumerate(spans) if span.num_rows > 1 or span.context_length == 1),
        len(spans),
    )
    row = 0
    for group in _similar_contexts(spans[:num_decodes], block_size):
        work.append(_decode_group(group, row, window, block_size, dtype, device))
        row += len(group)
    fresh: list[int] = []  # row counts of fresh prompts that wait to be packed
    for span in spans[num_decodes:]:
        is_fresh = span.context_length == span.num_rows
        is_fresh = is_fresh and (window is None or span.num_rows <= window)
        if fresh and (not is_fresh or sum(fresh) + span.num_rows > _MAX_PACKED_ROWS):
            work.append(_fresh_prefill(fresh, row, dtype, device))
            row += sum(fresh)
            fresh = []
        if is_fresh:
            fresh.append(span.num_rows)
        else:
            work += _continued_prefill(span, row, window, block_size, dtype, device)
            row += span.num_rows
    if fresh:
        work.append(_fresh_prefill(fresh, row, dtype, device))
    return tuple(work)


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
    window: int | None,
    block_size: int,
    dtype: torch.dtype,
    device: torch.device,
) -> DecodeGroup:
    # Of each sequence: the first key that it sees, and the block that this one lies in.
    lows = [0 if window is None else max(span.context_length - window, 0) for span in group]
    skipped = [low // block_size for low in lows]
    ends = np.array(
        [span.context_length - skip * block_size for span, skip in zip(group, skipped, strict=True)]
    )
    length = int(ends.max())
    tables = [span.block_ids[skip:] for span, skip in zip(group, skipped, strict=True)]
    block_ids, unowned = _padded_tables(tables, ends.tolist(), block_size)
    starts = np.array(lows) - np.array(skipped) * block_size
    mask = None
    if ends.min() != length or starts.any():
        keys = np.arange(length)[None, :]
        allowed = (keys < ends[:, None]) & (keys >= starts[:, None])
        mask = _bias(allowed, dtype, device)[:, None, None, :]
    return DecodeGroup(
        first,
        first + len(group),
        torch.from_numpy(block_ids).to(device),
        length,
        mask,
        torch.from_numpy(unowned).to(device) if unowned.size else None,
    )


def _padded_tables(
    tables: Sequence[Sequence[int]], ends: Sequence[int], block_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """`block_ids` and `unowned` of a `DecodeGroup` whose tables hold `ends` keys each."""
    length = max(ends)
    blocks = -(-length // block_size)
    padded = np.empty((len(tables), blocks), dtype=np.int64)
    unowned = []
    for index, (table, end) in enumerate(zip(tables, ends, strict=True)):
        own = -(-end // block_size)
        padded[index, :own] = table[:own]
        # The first block, unless it is the last, is full of the sequence's own keys: repeated as padding it
        # brings nobody else's, which leaves the end of the last block to be wiped.
        padded[index, own:] = table[0]
        wiped = min(own * block_size, length) if own > 1 else length
        base = index * blocks * block_size
        unowned.append(np.arange(base + end, base + wiped))
    return padded.reshape(-1), np.concatenate(unowned)


def _fresh_prefill(
    row_counts: Sequence[int], first: int, dtype: torch.dtype, device: torch.device
) -> FreshPrefill:
    total = sum(row_counts)
    if len(row_counts) == 1:
        return FreshPrefill(first, first + total, (total,), None)
    owner = np.repeat(np.arange(len(row_counts)), row_counts)
    allowed = (owner[:, None] == owner[None, :]) & np.tri(total, dtype=bool)
    mask = _bias(allowed, dtype, device)
    return FreshPrefill(first, first + total, tuple(row_counts), mask)


def _continued_prefill(
    span: SequenceSpan,
    first: int,
    window: int | None,
    block_size: int,
    dtype: torch.dtype,
    device: torch.device,
) -> list[ContinuedPrefill]:
    before = span.context_length - span.num_rows
    rows_at_once = max(_MAX_MASK_ELEMENTS // span.context_length, 1)
    if window is not None:
        rows_at_once = min(rows_at_once, max(window, _MIN_WINDOWED_ROWS))
    parts = []
    for start in range(0, span.num_rows, rows_at_once):
        rows = min(rows_at_once, span.num_rows - start)
        end = before + start + rows
        low = 0 if window is None else max(end - rows - window + 1, 0)
        skip = low // block_size
        length = end - skip * block_size
        ids = torch.tensor(span.block_ids[skip : -(-end // block_size)], dtype=torch.int64)
        allowed = np.tri(rows, length, length - rows, dtype=bool)
        if window is not None:
            allowed &= ~np.tri(rows, length, length - rows - window, dtype=bool)
        mask = _bias(allowed, dtype, device)
        place = first + start
        parts.append(ContinuedPrefill(place, place + rows, ids.to(device), length, mask))
    return parts


def _bias(allowed: np.ndarray, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    bias = np.where(allowed, np.float32(0.0), np.float32(-np.inf))
    return torch.from_numpy(bias).to(device=device, dtype=dtype)
