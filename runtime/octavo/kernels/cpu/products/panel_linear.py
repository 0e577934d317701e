"""Products with a weight in panels, as a layer's `Linear`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

import torch

from octavo.kernels.cpu.compiling.team import run_on_team
from octavo.kernels.cpu.products import grouped_products, panel_products
from octavo.kernels.cpu.products.panel_rows import can_look_up, rows_of_panels
from octavo.kernels.cpu.products.panel_work import COUNTER_SPACING, TILE_ROWS
from octavo.kernels.cpu.products.weight_panels import Panels

# Rows of the input that all panels are multiplied with in turn: they stay in a core's second cache.
_BLOCK_BYTES = 2**18

_KERNELS = panel_products.KERNELS | grouped_products.KERNELS


class PanelLinear:
    """`[rows, in_features] -> [rows, out_features]`, in the dtype of the input.

    Args:
        dtype: Of the inputs: bfloat16, or float32 with any panels but those of bfloat16.
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
        """Rows of the weight by output feature; None for what is for products alone: nibbles and groups."""
        if not can_look_up(self.panels.format, self._dtype):
            return None
        return functools.partial(rows_of_panels, self.panels, dtype=self._dtype)

    def __call__(self, x: torch.Tensor, step: object = None) -> torch.Tensor:
        panels, grouping = self.panels, self.panels.grouping
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
            0 if grouping is None else grouping.size,
            0 if grouping is None else int(grouping.has_zeros),
            counters=lanes * COUNTER_SPACING,
        )
        return out


def _block_rows(row_bytes: int) -> int:
    """Whole tiles."""
    return max(_BLOCK_BYTES // row_bytes // TILE_ROWS, 1) * TILE_ROWS
