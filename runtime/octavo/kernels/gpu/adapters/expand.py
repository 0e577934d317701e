"""Expand of adapters. The second half of what adapters add to a product, in one launch: a grouped product
that is added to the outputs where they lie."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.adapter_seats import ENTRY, UNIT, SeatedProduct
from octavo.kernels.adapter_tiles import TILE_FIELDS, AdapterTiles
from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options
from octavo.kernels.gpu.tuning.adapters import AdapterConfig, adapter_config

_MAX_PARTS = 3


def adapter_expand(
    inner: torch.Tensor, product: SeatedProduct, tiles: AdapterTiles, out: torch.Tensor
) -> None:
    """As `reference.adapter_expand`, computed in float32 and rounded once."""
    config = adapter_config(out.dtype, tiles.block_rows, product.depth, product.max_rank)
    seats = product.seats
    column_blocks = sum(triton.cdiv(width, config.columns) for width in product.widths)
    _expand[(len(tiles.tiles), column_blocks)](
        inner,
        seats.memory,
        seats.table,
        tiles.tiles,
        tiles.order,
        out,
        seats.memory.stride(0) // UNIT,
        seats.table.stride(0),
        product.first_part,
        len(tiles.order),
        **_constants(config, tiles.block_rows, product.widths, product.max_rank),
        **launch_options(config.expand_warps, config.expand_stages),
    )


def _constants(
    config: AdapterConfig, block_rows: int, widths: tuple[int, ...], max_rank: int
) -> dict[str, int]:
    if len(widths) > _MAX_PARTS:
        raise ValueError(f"{len(widths)} products side by side, of which adapters change at most 3")
    first, second, third = (*widths, 0, 0)[:_MAX_PARTS]
    return {
        "FIRST": first,
        "SECOND": second,
        "THIRD": third,
        "RANKS": len(widths) * max_rank,
        "MAX_RANK": max_rank,
        "SPLITS": config.splits,
        "BLOCK_ROWS": block_rows,
        "BLOCK_RANKS": config.ranks,
        "BLOCK_COLUMNS": config.columns,
        "UNIT": UNIT,
        "ENTRY": ENTRY,
        "TILE_FIELDS": TILE_FIELDS,
    }


@triton.jit(do_not_specialize=["seat_units", "table_stride", "first_part", "num_places"])
def _expand(
    inner,
    memory,
    table,
    tiles,
    order,
    out,
    seat_units,
    table_stride,
    first_part,
    num_places,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
    THIRD: tl.constexpr,
    RANKS: tl.constexpr,
    MAX_RANK: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_RANKS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    UNIT: tl.constexpr,
    ENTRY: tl.constexpr,
    TILE_FIELDS: tl.constexpr,
):
    """One tile's rows and one block of a part's columns."""
    WIDTH: tl.constexpr = FIRST + SECOND + THIRD
    FIRST_BLOCKS: tl.constexpr = (FIRST + BLOCK_COLUMNS - 1) // BLOCK_COLUMNS
    BOTH_BLOCKS: tl.constexpr = FIRST_BLOCKS + (SECOND + BLOCK_COLUMNS - 1) // BLOCK_COLUMNS
    tile = tiles + tl.program_id(0) * TILE_FIELDS
    seat = tl.load(tile)
    if seat < 0:
        return
    block = tl.program_id(1)
    is_second = block >= FIRST_BLOCKS
    is_third = block >= BOTH_BLOCKS
    part = is_second.to(tl.int32) + is_third.to(tl.int32)
    width = tl.where(is_third, THIRD, tl.where(is_second, SECOND, FIRST))
    first_column = tl.where(is_third, FIRST + SECOND, tl.where(is_second, FIRST, 0))
    block -= tl.where(is_third, BOTH_BLOCKS, tl.where(is_second, FIRST_BLOCKS, 0))
    entry = table + seat * table_stride + (first_part + part) * ENTRY
    rank = tl.load(entry)
    if rank == 0:
        return
    units = seat.to(tl.int64) * seat_units + tl.load(entry + 2)
    first = tl.load(tile + 1)
    end = tl.load(tile + 2)

    place = first + tl.arange(0, BLOCK_ROWS)
    is_place = place < end
    column = block * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    is_column = column < width
    matrix = memory + units * UNIT + column[None, :]
    sums = inner + place.to(tl.int64)[:, None] * RANKS + part * MAX_RANK
    split_stride = num_places.to(tl.int64) * RANKS
    total = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], tl.float32)
    for start in range(0, rank, BLOCK_RANKS):
        ranks = start + tl.arange(0, BLOCK_RANKS)
        is_rank = ranks < rank
        is_own = is_place[:, None] & is_rank[None, :]
        values = tl.zeros([BLOCK_ROWS, BLOCK_RANKS], tl.float32)
        for split in tl.static_range(SPLITS):
            values += tl.load(sums + split * split_stride + ranks[None, :], is_own, other=0.0)
        weights = tl.load(
            matrix + ranks[:, None] * width, is_rank[:, None] & is_column[None, :], other=0.0
        )
        total = tl.dot(values.to(weights.dtype), weights, total, input_precision="ieee")

    row = tl.load(order + tl.minimum(place, end - 1)).to(tl.int64)
    target = out + row[:, None] * WIDTH + first_column + column[None, :]
    is_ours = is_place[:, None] & is_column[None, :]
    old = tl.load(target, is_ours, other=0.0).to(tl.float32)
    tl.store(target, (old + total).to(out.dtype.element_ty), is_ours)


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    forms = (
        (16, 4096, (4096, 1024, 1024), 16),
        (16, 14336, (4096,), 64),
        (64, 4096, (4096, 1024, 1024), 16),
        (64, 4096, (14336, 14336), 64),
        (64, 14336, (4096,), 256),
    )
    for block_rows, depth, widths, max_rank in forms:
        config = adapter_config(torch.bfloat16, block_rows, depth, max_rank)
        yield ShippedConfiguration(
            name=f"{block_rows}-{sum(widths)}-rank{max_rank}",
            kernel=_expand,
            arguments={
                "inner": "*fp32",
                "memory": "*bf16",
                "table": "*i32",
                "tiles": "*i32",
                "order": "*i32",
                "out": "*bf16",
                **dict.fromkeys(("seat_units", "table_stride", "first_part", "num_places"), "i32"),
            },
            constants=_constants(config, block_rows, widths, max_rank),
            num_warps=config.expand_warps,
            num_stages=config.expand_stages,
            capabilities=(80, 89, 90, 120) if max_rank == 16 else (80, 90),
            uses_wgmma=block_rows >= 64,
        )
