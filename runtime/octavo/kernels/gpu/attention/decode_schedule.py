"""Work list of a decode step: all contexts of a batch, cut so that all multiprocessors read equally.

Flash-Decoding (Dao et al., 2023) with a list in place of a fixed number of splits: pieces are of one length,
whichever sequence they belong to, and their number is bounded by shapes alone. The list is written on the
device, so that a CUDA graph holds the step whatever its contexts are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options
from octavo.kernels.gpu.tuning.attention import DecodeConfig, decode_config
from octavo.kernels.gpu.tuning.chips import capability_of, multiprocessors_of

# Rows of a tensor-core product; the query heads of a group are packed into them.
BLOCK_ROWS = 16
# Of a work item: sequence (-1: none), first key, end key, first item of the sequence, its number of items.
_ITEM_FIELDS = 8
_NO_WINDOW = 2**30


@dataclass(frozen=True, slots=True)
class DecodeWorkspace:
    """Memory between the programs of one launch, made once. Layers that run one after another share it.

    Layers whose sliding windows differ need a work list each: `dataclasses.replace` with other `items`.

    Args:
        config: Block sizes.
        target_items: Pieces to aim at per group of heads.
        items: `[max_seqs + target_items, 8]` int32, written by `schedule_decode`.
        partial: `[items, query_heads, head_dim]` float32, outputs of pieces.
        partial_lse: `[items, query_heads]` float32, log2 of their sums of exponentials.
        arrivals: `[max_seqs * head_blocks]` int32, pieces finished; zero between launches.
    """

    config: DecodeConfig
    target_items: int
    items: torch.Tensor
    partial: torch.Tensor
    partial_lse: torch.Tensor
    arrivals: torch.Tensor


def make_decode_workspace(
    max_seqs: int,
    num_query_heads: int,
    num_kv_heads: int,
    head_dim: int,
    *,
    dtype: torch.dtype,
    cache_dtype: torch.dtype,
    device: torch.device,
    num_multiprocessors: int | None = None,
) -> DecodeWorkspace:
    """For batches of up to `max_seqs` rows.

    Args:
        dtype: Of queries.

    Raises:
        ValueError: `head_dim` is out of range, or the cache's dtype is not one of this GPU's.
    """
    capability = capability_of(device)
    _check_cache_dtype(cache_dtype, capability)
    config = decode_config(capability, head_dim, dtype, cache_dtype)
    head_blocks = num_kv_heads * -(-(num_query_heads // num_kv_heads) // BLOCK_ROWS)
    processors = num_multiprocessors or multiprocessors_of(device)
    target = -(-processors * config.programs_per_multiprocessor // head_blocks)
    num_items = max_seqs + target
    return DecodeWorkspace(
        config,
        target,
        torch.full((num_items, _ITEM_FIELDS), -1, dtype=torch.int32, device=device),
        torch.empty(num_items, num_query_heads, head_dim, device=device),
        torch.empty(num_items, num_query_heads, device=device),
        torch.zeros(max_seqs * head_blocks, dtype=torch.int32, device=device),
    )


def _check_cache_dtype(cache_dtype: torch.dtype, capability: int) -> None:
    if cache_dtype == torch.float8_e4m3fn and capability < 89:
        raise ValueError(
            f"an FP8 KV cache needs compute capability 8.9 or later, this GPU has {capability / 10}: "
            "use --kv-cache-dtype auto"
        )


def schedule_decode(
    context_lens: torch.Tensor, workspace: DecodeWorkspace, sliding_window: int | None = None
) -> None:
    """Writes the work list of a step; call it before the step's first `paged_decode`.

    Args:
        context_lens: `[seqs]` int32 as `paged_decode` will get it.
        sliding_window: Of the layers that will use this list.
    """
    num_seqs = context_lens.shape[0]
    _schedule[(num_seqs + 1,)](
        context_lens,
        workspace.items,
        num_seqs,
        num_seqs + workspace.target_items,
        workspace.target_items,
        sliding_window or _NO_WINDOW,
        TILE=workspace.config.tile,
        BLOCK=256,
        **launch_options(num_warps=4, num_stages=1),
    )


@triton.jit
def _visible_tokens(context, window, TILE: tl.constexpr):
    """Keys from the tile in which the window begins to the end of the context."""
    first = tl.maximum(context - window, 0) // TILE * TILE
    return context - first


@triton.jit(
    do_not_specialize=["num_seqs", "num_items", "target_items", "window"],
    do_not_specialize_on_alignment=["context_lens"],
)
def _schedule(
    context_lens,
    items,
    num_seqs,
    num_items,
    target_items,
    window,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Program i writes the items of sequence i; the last one marks the rest of the list as empty."""
    sequence = tl.program_id(0)
    lane = tl.arange(0, BLOCK)
    total = 0
    for first in range(0, num_seqs, BLOCK):
        context = tl.load(context_lens + first + lane, first + lane < num_seqs, other=0)
        total += tl.sum(_visible_tokens(context, window, TILE))
    length = tl.maximum(tl.cdiv(tl.cdiv(total, target_items), TILE), 1) * TILE
    before = 0
    for first in range(0, sequence, BLOCK):
        context = tl.load(context_lens + first + lane, first + lane < sequence, other=0)
        pieces = tl.maximum(tl.cdiv(_visible_tokens(context, window, TILE), length), 1)
        before += tl.sum(tl.where(first + lane < sequence, pieces, 0))
    if sequence == num_seqs:
        for first in range(before, num_items, BLOCK):
            index = first + lane
            tl.store(items + index * 8, tl.full([BLOCK], -1, tl.int32), index < num_items)
    else:
        context = tl.load(context_lens + sequence)
        visible = _visible_tokens(context, window, TILE)
        pieces = tl.maximum(tl.cdiv(visible, length), 1)
        for first in range(0, pieces, BLOCK):
            piece = first + lane
            item = items + (before + piece) * 8
            begin = context - visible + piece * length
            own = piece < pieces
            tl.store(item, tl.zeros([BLOCK], tl.int32) + sequence, own)
            tl.store(item + 1, begin, own)
            tl.store(item + 2, tl.minimum(begin + length, context), own)
            tl.store(item + 3, tl.zeros([BLOCK], tl.int32) + before, own)
            tl.store(item + 4, tl.zeros([BLOCK], tl.int32) + pieces, own)


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    integers = ("num_seqs", "num_items", "target_items", "window")
    yield ShippedConfiguration(
        name="schedule",
        kernel=_schedule,
        arguments={"context_lens": "*i32", "items": "*i32"} | dict.fromkeys(integers, "i32"),
        constants={"TILE": 64, "BLOCK": 256},
        num_warps=4,
        num_stages=1,
    )
