"""Products with a weight in panels, on all of torch's threads, for one row as for thousands.

A product with few rows takes as long as its weight takes to be read. So a panel is read once for up to
eight rows, and each thread reads through a stretch of panels of its own, which memory serves faster than
threads that take turns (a quarter with int4). One that is done helps the others: a neighbour on one core
delays nobody but itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch

from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import TeamKernel, part, team_kernel
from octavo.kernels.cpu.compiling.team import run_on_team
from octavo.kernels.cpu.products.panel_tile import make_tile
from octavo.kernels.cpu.products.weight_panels import PANEL, PanelFormat, Panels

_TILE_ROWS = 8
# Where the lanes' counters lie in a job, a cache line apart.
_COUNTERS, _COUNTER_SPACING = 12, 8
# Rows of the input that all panels are multiplied with in turn: they stay in a core's second cache.
_BLOCK_BYTES = 2**18

_tile_1, _tile_2, _tile_4, _tile_8 = (make_tile(rows) for rows in (1, 2, 4, _TILE_ROWS))


@part
def _panels(x: Any, panels: Any, factors: Any, out: Any, sizes: Any, job: Any) -> None:
    """All pieces (panels times blocks of rows), in as many lanes as there are threads.

    A thread works through a lane of its own, whose panels lie one behind the other, and then helps with
    what is left of the others'.
    """
    depth, width, stride, block_rows = sizes
    rows, lanes = job[6], job[11]
    scratch = np.empty(_TILE_ROWS * PANEL, dtype=np.float32)
    count = (width + PANEL - 1) // PANEL
    pieces = count * ((rows + block_rows - 1) // block_rows)
    own = v.count_up(job, 0)
    for turn in range(lanes):
        lane = (own + turn) % lanes
        first, end = pieces * lane // lanes, pieces * (lane + 1) // lanes
        piece = first + v.count_up(job, _COUNTERS + lane * _COUNTER_SPACING)
        while piece < end:
            panel = piece % count
            row = piece // count * block_rows
            last_row = min(rows, row + block_rows)
            target = (panel * PANEL, out, width)
            _piece(x, panels, panel * stride, row, last_row, depth, scratch, factors, target)
            piece = first + v.count_up(job, _COUNTERS + lane * _COUNTER_SPACING)


@part
def _piece(
    x: Any,
    panels: Any,
    panel_at: int,
    row: int,
    end: int,
    depth: int,
    scratch: Any,
    factors: Any,
    target: Any,
) -> None:
    """Rows `row` to `end` times one panel; `factors` and `target` as in `_finish`."""
    sums = v.float32_at(scratch.ctypes.data)
    while row < end:
        n = min(_TILE_ROWS, end - row)
        if n > 4:
            _tile_8(x, row * depth, n - 1, depth, panels, panel_at, sums)
        elif n > 2:
            _tile_4(x, row * depth, n - 1, depth, panels, panel_at, sums)
        elif n > 1:
            _tile_2(x, row * depth, n - 1, depth, panels, panel_at, sums)
        else:
            _tile_1(x, row * depth, n - 1, depth, panels, panel_at, sums)
        _finish(sums, row, n, factors, target)
        row += n


@part
def _finish(sums: Any, row: int, rows: int, factors: Any, target: Any) -> None:
    """Scales and biases `rows` rows from `row` of a panel, and stores them.

    `factors` is (whether there are scales, scales, whether there is a bias, bias), `target` (the panel's
    first output feature, the output, its width).
    """
    has_scales, scales, has_bias, bias = factors
    first, out, width = target
    for c in range(0, min(PANEL, width - first), v.LANES):
        for r in range(rows):
            value = v.load(sums, r * PANEL + c)
            if has_scales:
                value = v.multiply(value, v.load(scales, first + c))
            if has_bias:
                value = v.add(value, v.load(bias, first + c))
            v.store(out, (row + r) * width + first + c, value)


@part
def _factors(job: Any) -> Any:
    return job[4] != 0, v.float32_at(job[4]), job[5] != 0, v.float32_at(job[5])


@part
def _sizes(job: Any, element_bytes: int) -> Any:
    return job[7], job[8], job[9] // element_bytes, job[10]


@team_kernel
def _bfloat16_by_bfloat16(address: int) -> None:
    job = v.int64_at(address)
    x, panels, out = v.bfloat16_at(job[1]), v.bfloat16_at(job[2]), v.bfloat16_at(job[3])
    _panels(x, panels, _factors(job), out, _sizes(job, 2), job)


@team_kernel
def _bfloat16_by_int8(address: int) -> None:
    job = v.int64_at(address)
    x, panels, out = v.bfloat16_at(job[1]), v.int8_at(job[2]), v.bfloat16_at(job[3])
    _panels(x, panels, _factors(job), out, _sizes(job, 1), job)


@team_kernel
def _bfloat16_by_int4(address: int) -> None:
    job = v.int64_at(address)
    x, panels, out = v.bfloat16_at(job[1]), v.uint8_at(job[2]), v.bfloat16_at(job[3])
    _panels(x, panels, _factors(job), out, _sizes(job, 1), job)


@team_kernel
def _float32_by_int8(address: int) -> None:
    job = v.int64_at(address)
    x, panels, out = v.float32_at(job[1]), v.int8_at(job[2]), v.float32_at(job[3])
    _panels(x, panels, _factors(job), out, _sizes(job, 1), job)


@team_kernel
def _float32_by_int4(address: int) -> None:
    job = v.int64_at(address)
    x, panels, out = v.float32_at(job[1]), v.uint8_at(job[2]), v.float32_at(job[3])
    _panels(x, panels, _factors(job), out, _sizes(job, 1), job)


_KERNELS: dict[tuple[torch.dtype, PanelFormat], TeamKernel] = {
    (torch.bfloat16, PanelFormat.BFLOAT16): _bfloat16_by_bfloat16,
    (torch.bfloat16, PanelFormat.INT8): _bfloat16_by_int8,
    (torch.bfloat16, PanelFormat.INT4): _bfloat16_by_int4,
    (torch.float32, PanelFormat.INT8): _float32_by_int8,
    (torch.float32, PanelFormat.INT4): _float32_by_int4,
}


class PanelLinear:
    """`[rows, in_features] -> [rows, out_features]`, in the dtype of the input.

    Args:
        dtype: Of the inputs: bfloat16, or float32 with integer panels.
        bias: `[out_features]`, or None.
    """

    __slots__ = ("_bias", "_block_rows", "_dtype", "_kernel", "panels")

    plain: Final = None

    def __init__(self, panels: Panels, dtype: torch.dtype, bias: torch.Tensor | None) -> None:
        self.panels = panels
        self._dtype = dtype
        self._kernel = _KERNELS[dtype, panels.format]
        self._bias = None if bias is None else bias.float()
        self._block_rows = _block_rows(panels.depth * dtype.itemsize)

    @property
    def lookup(self) -> Callable[[torch.Tensor], torch.Tensor] | None:
        """Rows of the weight by output feature; None for int4, whose nibbles are for products alone."""
        if self.panels.format is PanelFormat.INT4:
            return None
        return functools.partial(self.panels.rows, dtype=self._dtype)

    def __call__(self, x: torch.Tensor, step: object = None) -> torch.Tensor:
        panels = self.panels
        x = x.contiguous()
        rows, lanes = x.shape[0], torch.get_num_threads()
        out = x.new_empty((rows, panels.width))
        run_on_team(
            self._kernel,
            x.data_ptr(),
            panels.data.data_ptr(),
            out.data_ptr(),
            0 if panels.scales is None else panels.scales.data_ptr(),
            0 if self._bias is None else self._bias.data_ptr(),
            rows,
            panels.depth,
            panels.width,
            panels.data.shape[1],
            self._block_rows,
            lanes,
            counters=lanes * _COUNTER_SPACING,
        )
        return out


def _block_rows(row_bytes: int) -> int:
    """Whole tiles."""
    return max(_BLOCK_BYTES // row_bytes // _TILE_ROWS, 1) * _TILE_ROWS
