"""Products with panels: the kernels for weights that are as they were, or rounded as they were read."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import TeamKernel, part, team_kernel
from octavo.kernels.cpu.products.panel_tile import make_asking_tile, make_tile
from octavo.kernels.cpu.products.panel_work import TILE_ROWS, factors_of, finish, make_share
from octavo.kernels.cpu.products.weight_panels import PANEL, PanelFormat

_tile_1, _tile_2, _tile_4, _tile_8 = (make_tile(rows) for rows in (1, 2, 4, TILE_ROWS))


_asking_tile = make_asking_tile(TILE_ROWS)


def _make_piece(*, asks: bool) -> Any:
    """A piece of `make_share`; `factors` is (those of `finish`, scratch of a tile's sums).

    Args:
        asks: For the next panel, of 16 bits, while the second and third tile of rows read this one from a
            cache. The first waits for memory: without that a step of 32 rows would wait a third of its time.
    """

    @part
    def piece(
        x: Any, panels: Any, panel_at: int, rows: Any, depth: int, factors: Any, target: Any
    ) -> None:
        row, end = rows
        last_factors, scratch = factors
        sums = v.float32_at(scratch.ctypes.data)
        asked_at, next_end = panel_at + depth * PANEL, panel_at + 2 * depth * PANEL
        while row < end:
            n = min(TILE_ROWS, end - row)
            if asks and n > 4 and row > rows[0] and asked_at < next_end:
                _asking_tile(x, row * depth, n - 1, depth, panels, panel_at, sums, asked_at)
                asked_at += depth * PANEL // 2
            elif n > 4:
                _tile_8(x, row * depth, n - 1, depth, panels, panel_at, sums)
            elif n > 2:
                _tile_4(x, row * depth, n - 1, depth, panels, panel_at, sums)
            elif n > 1:
                _tile_2(x, row * depth, n - 1, depth, panels, panel_at, sums)
            else:
                _tile_1(x, row * depth, n - 1, depth, panels, panel_at, sums)
            finish(sums, row, n, last_factors, target)
            row += n

    return piece


_share, _asking_share = (make_share(_make_piece(asks=asks)) for asks in (False, True))


@part
def _product(x: Any, panels: Any, out: Any, element: int, job: Any) -> None:
    scratch = np.empty(TILE_ROWS * PANEL, dtype=np.float32)
    _share(x, panels, out, (factors_of(job), scratch), element, job)


@team_kernel
def _bfloat16_by_bfloat16(address: int) -> None:
    job = v.int64_at(address)
    x, panels, out = v.bfloat16_at(job[1]), v.bfloat16_at(job[2]), v.bfloat16_at(job[3])
    scratch = np.empty(TILE_ROWS * PANEL, dtype=np.float32)
    _asking_share(x, panels, out, (factors_of(job), scratch), 2, job)


@team_kernel
def _bfloat16_by_int8(address: int) -> None:
    job = v.int64_at(address)
    _product(v.bfloat16_at(job[1]), v.int8_at(job[2]), v.bfloat16_at(job[3]), 1, job)


@team_kernel
def _bfloat16_by_int4(address: int) -> None:
    job = v.int64_at(address)
    _product(v.bfloat16_at(job[1]), v.uint8_at(job[2]), v.bfloat16_at(job[3]), 1, job)


@team_kernel
def _float32_by_bfloat16(address: int) -> None:
    job = v.int64_at(address)
    x, panels, out = v.float32_at(job[1]), v.bfloat16_at(job[2]), v.float32_at(job[3])
    scratch = np.empty(TILE_ROWS * PANEL, dtype=np.float32)
    _asking_share(x, panels, out, (factors_of(job), scratch), 2, job)


@team_kernel
def _float32_by_float16(address: int) -> None:
    job = v.int64_at(address)
    x, panels, out = v.float32_at(job[1]), v.int16_at(job[2]), v.float32_at(job[3])
    scratch = np.empty(TILE_ROWS * PANEL, dtype=np.float32)
    _asking_share(x, panels, out, (factors_of(job), scratch), 2, job)


@team_kernel
def _float32_by_int8(address: int) -> None:
    job = v.int64_at(address)
    _product(v.float32_at(job[1]), v.int8_at(job[2]), v.float32_at(job[3]), 1, job)


@team_kernel
def _float32_by_int4(address: int) -> None:
    job = v.int64_at(address)
    _product(v.float32_at(job[1]), v.uint8_at(job[2]), v.float32_at(job[3]), 1, job)


KERNELS: dict[tuple[torch.dtype, PanelFormat], TeamKernel] = {
    (torch.bfloat16, PanelFormat.BFLOAT16): _bfloat16_by_bfloat16,
    (torch.bfloat16, PanelFormat.INT8): _bfloat16_by_int8,
    (torch.bfloat16, PanelFormat.INT4): _bfloat16_by_int4,
    (torch.float32, PanelFormat.BFLOAT16): _float32_by_bfloat16,
    (torch.float32, PanelFormat.FLOAT16): _float32_by_float16,
    (torch.float32, PanelFormat.INT8): _float32_by_int8,
    (torch.float32, PanelFormat.INT4): _float32_by_int4,
}
