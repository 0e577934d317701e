"""Shrink of adapters. The first half of what adapters add to a product, in one launch: a grouped product
over tiles of rows that have the same adapter.

Which adapter, of which rank, and where its matrix lies is read on the device, so that a recorded launch
serves every adapter that will have the seat. Programs of ranks that an adapter does not have end at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.adapter_seats import ENTRY, UNIT, SeatedProduct
from octavo.kernels.adapter_tiles import TILE_FIELDS, AdapterTiles
from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options
from octavo.kernels.gpu.tuning.adapters import AdapterConfig, adapter_config


def adapter_shrink(x: torch.Tensor, product: SeatedProduct, tiles: AdapterTiles) -> torch.Tensor:
    """As `reference.adapter_shrink`, in one order of sums; `x` is contiguous."""
    config = adapter_config(x.dtype, tiles.block_rows, product.depth, product.max_rank)
    parts, places = len(product.widths), len(tiles.order)
    seats = product.seats
    inner = torch.empty(
        config.splits, places, parts * product.max_rank, dtype=torch.float32, device=x.device
    )
    grid = (len(tiles.tiles), parts * triton.cdiv(product.max_rank, config.ranks), config.splits)
    _shrink[grid](
        x,
        seats.memory,
        seats.table,
        tiles.tiles,
        tiles.order,
        inner,
        seats.memory.stride(0) // UNIT,
        seats.table.stride(0),
        product.first_part,
        places,
        **_constants(config, tiles.block_rows, product.depth, parts, product.max_rank),
        **launch_options(config.shrink_warps, config.shrink_stages),
    )
    return inner


def _constants(
    config: AdapterConfig, block_rows: int, depth: int, parts: int, max_rank: int
) -> dict[str, int]:
    return {
        "DEPTH": depth,
        "PARTS": parts,
        "MAX_RANK": max_rank,
        "SPLITS": config.splits,
        "BLOCK_ROWS": block_rows,
        "BLOCK_RANKS": config.ranks,
        "BLOCK_INNER": config.inner,
        "UNIT": UNIT,
        "ENTRY": ENTRY,
        "TILE_FIELDS": TILE_FIELDS,
    }


@triton.jit(do_not_specialize=["seat_units", "table_stride", "first_part", "num_places"])
def _shrink(
    x,
    memory,
    table,
    tiles,
    order,
    inner,
    seat_units,
    table_stride,
    first_part,
    num_places,
    DEPTH: tl.constexpr,
    PARTS: tl.constexpr,
    MAX_RANK: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_RANKS: tl.constexpr,
    BLOCK_INNER: tl.constexpr,
    UNIT: tl.constexpr,
    ENTRY: tl.constexpr,
    TILE_FIELDS: tl.constexpr,
):
    """One tile's rows, one block of a part's ranks, one split of the inner axis."""
    RANK_BLOCKS: tl.constexpr = (MAX_RANK + BLOCK_RANKS - 1) // BLOCK_RANKS
    STEPS: tl.constexpr = (DEPTH + BLOCK_INNER * SPLITS - 1) // (BLOCK_INNER * SPLITS)
    tile = tiles + tl.program_id(0) * TILE_FIELDS
    seat = tl.load(tile)
    if seat < 0:
        return
    part = tl.program_id(1) // RANK_BLOCKS
    first_rank = tl.program_id(1) % RANK_BLOCKS * BLOCK_RANKS
    entry = table + seat * table_stride + (first_part + part) * ENTRY
    rank = tl.load(entry)
    if first_rank >= rank:
        return
    units = seat.to(tl.int64) * seat_units + tl.load(entry + 1)
    first = tl.load(tile + 1)
    end = tl.load(tile + 2)

    # Beyond the last place and the last rank these are read again: no load needs a mask.
    place = first + tl.arange(0, BLOCK_ROWS)
    row = tl.load(order + tl.minimum(place, end - 1))
    ranks = first_rank + tl.arange(0, BLOCK_RANKS)
    split = tl.program_id(2)
    begin = split * (STEPS * BLOCK_INNER)
    depth = begin + tl.arange(0, BLOCK_INNER)
    rows = x + row.to(tl.int64)[:, None] * DEPTH + depth[None, :]
    matrix = memory + units * UNIT + tl.minimum(ranks, rank - 1)[None, :] * DEPTH + depth[:, None]
    total = tl.zeros([BLOCK_ROWS, BLOCK_RANKS], tl.float32)
    for start in range(0, STEPS * BLOCK_INNER, BLOCK_INNER):
        if DEPTH % (BLOCK_INNER * SPLITS) == 0:
            row_values = tl.load(rows + start)
            weights = tl.load(matrix + start)
        else:
            inside = start + depth < DEPTH
            row_values = tl.load(rows + start, inside[None, :], other=0.0)
            weights = tl.load(matrix + start, inside[:, None], other=0.0)
        total = tl.dot(row_values, weights, total, input_precision="ieee")

    target = (split.to(tl.int64) * num_places + place) * (PARTS * MAX_RANK) + part * MAX_RANK
    is_own = (place < end)[:, None] & (ranks < rank)[None, :]
    tl.store(inner + target[:, None] + ranks[None, :], total, is_own)


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    forms = (
        (16, 4096, 3, 16),
        (16, 14336, 1, 64),
        (64, 4096, 3, 16),
        (64, 4096, 2, 64),
        (64, 14336, 1, 256),
        (16, 1000, 1, 16),
    )
    for block_rows, depth, parts, max_rank in forms:
        config = adapter_config(torch.bfloat16, block_rows, depth, max_rank)
        yield ShippedConfiguration(
            name=f"{block_rows}-{depth}-rank{max_rank}",
            kernel=_shrink,
            arguments={
                "x": "*bf16",
                "memory": "*bf16",
                "table": "*i32",
                "tiles": "*i32",
                "order": "*i32",
                "inner": "*fp32",
                **dict.fromkeys(("seat_units", "table_stride", "first_part", "num_places"), "i32"),
            },
            constants=_constants(config, block_rows, depth, parts, max_rank),
            num_warps=config.shrink_warps,
            num_stages=config.shrink_stages,
            capabilities=(80, 89, 90, 120) if max_rank == 16 else (80, 90),
            uses_wgmma=block_rows >= 64,
            overlaps_copies=True,
        )
