"""Products with grouped panels: the kernels for weights that quantised checkpoints hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import TeamKernel, part, team_kernel
from octavo.kernels.cpu.products.grouped_tile import make_grouped_tile
from octavo.kernels.cpu.products.panel_work import TILE_ROWS, factors_of, finish, make_share
from octavo.kernels.cpu.products.weight_panels import PANEL, PanelFormat


def _make_piece(panel_format: PanelFormat) -> Any:
    """A piece for `make_share`. Its `factors` are those of `finish`, (inputs of a group, whether there are
    zeros), and scratch: a tile's sums, the sums of each group's inputs, and the row that these begin with."""
    tile_1, tile_2, tile_4, tile_8 = (
        make_grouped_tile(rows, panel_format) for rows in (1, 2, 4, TILE_ROWS)
    )

    @part
    def piece(
        x: Any, panels: Any, panel_at: int, rows: Any, depth: int, factors: Any, target: Any
    ) -> None:
        row, end = rows
        last_factors, (group, has_zeros), (scratch, group_sums, first_summed) = factors
        sums = v.float32_at(scratch.ctypes.data)
        if has_zeros and first_summed[0] != row:
            _sum_groups(x, row, end, depth, group, group_sums)
            first_summed[0] = row
        place, stride = group_sums.ctypes.data, 4 * TILE_ROWS * (depth // group)
        while row < end:
            n = min(TILE_ROWS, end - row)
            at, last, inputs = row * depth, n - 1, v.float32_at(place)
            if n > 4:
                tile_8(x, at, last, depth, panels, panel_at, group, has_zeros, inputs, sums)
            elif n > 2:
                tile_4(x, at, last, depth, panels, panel_at, group, has_zeros, inputs, sums)
            elif n > 1:
                tile_2(x, at, last, depth, panels, panel_at, group, has_zeros, inputs, sums)
            else:
                tile_1(x, at, last, depth, panels, panel_at, group, has_zeros, inputs, sums)
            finish(sums, row, n, last_factors, target)
            row += n
            place += stride

    return piece


@part
def _sum_groups(x: Any, row: int, end: int, depth: int, group: int, sums: Any) -> None:
    """Of rows `row` to `end`, `[rows, groups]`: in one order, however many rows there are."""
    vectors = group // v.LANES * v.LANES
    for place in range((end - row) * depth // group):
        first = row * depth + place * group
        running = v.splat(np.float32(0))
        for k in range(first, first + vectors, v.LANES):
            running = v.add(running, v.load(x, k))
        total = v.sum_lanes(running)
        for k in range(first + vectors, first + group):
            total += v.scalar(x, k)
        sums[place] = total


def _make_product(panel_format: PanelFormat) -> Any:
    share = make_share(_make_piece(panel_format))

    @part
    def product(x: Any, out: Any, job: Any) -> None:
        depth, block_rows, group, has_zeros = job[7], job[10], job[12], job[13] != 0
        scratch = np.empty(TILE_ROWS * PANEL, dtype=np.float32)
        group_sums = np.empty(block_rows * (depth // group) if has_zeros else 1, dtype=np.float32)
        first_summed = np.full(1, -1)
        factors = factors_of(job), (group, has_zeros), (scratch, group_sums, first_summed)
        share(x, v.uint8_at(job[2]), out, factors, 1, job)

    return product


_int4_product, _int8_product, _float8_product, _mxfp4_product = (
    _make_product(panel_format)
    for panel_format in (
        PanelFormat.GROUPED_INT4,
        PanelFormat.GROUPED_INT8,
        PanelFormat.GROUPED_FLOAT8,
        PanelFormat.GROUPED_MXFP4,
    )
)


@team_kernel
def _bfloat16_by_int4(address: int) -> None:
    job = v.int64_at(address)
    _int4_product(v.bfloat16_at(job[1]), v.bfloat16_at(job[3]), job)


@team_kernel
def _bfloat16_by_int8(address: int) -> None:
    job = v.int64_at(address)
    _int8_product(v.bfloat16_at(job[1]), v.bfloat16_at(job[3]), job)


@team_kernel
def _bfloat16_by_float8(address: int) -> None:
    job = v.int64_at(address)
    _float8_product(v.bfloat16_at(job[1]), v.bfloat16_at(job[3]), job)


@team_kernel
def _bfloat16_by_mxfp4(address: int) -> None:
    job = v.int64_at(address)
    _mxfp4_product(v.bfloat16_at(job[1]), v.bfloat16_at(job[3]), job)


@team_kernel
def _float32_by_int4(address: int) -> None:
    job = v.int64_at(address)
    _int4_product(v.float32_at(job[1]), v.float32_at(job[3]), job)


@team_kernel
def _float32_by_int8(address: int) -> None:
    job = v.int64_at(address)
    _int8_product(v.float32_at(job[1]), v.float32_at(job[3]), job)


@team_kernel
def _float32_by_float8(address: int) -> None:
    job = v.int64_at(address)
    _float8_product(v.float32_at(job[1]), v.float32_at(job[3]), job)


@team_kernel
def _float32_by_mxfp4(address: int) -> None:
    job = v.int64_at(address)
    _mxfp4_product(v.float32_at(job[1]), v.float32_at(job[3]), job)


KERNELS: dict[tuple[torch.dtype, PanelFormat], TeamKernel] = {
    (torch.bfloat16, PanelFormat.GROUPED_INT4): _bfloat16_by_int4,
    (torch.bfloat16, PanelFormat.GROUPED_INT8): _bfloat16_by_int8,
    (torch.bfloat16, PanelFormat.GROUPED_FLOAT8): _bfloat16_by_float8,
    (torch.bfloat16, PanelFormat.GROUPED_MXFP4): _bfloat16_by_mxfp4,
    (torch.float32, PanelFormat.GROUPED_INT4): _float32_by_int4,
    (torch.float32, PanelFormat.GROUPED_INT8): _float32_by_int8,
    (torch.float32, PanelFormat.GROUPED_FLOAT8): _float32_by_float8,
    (torch.float32, PanelFormat.GROUPED_MXFP4): _float32_by_mxfp4,
}
