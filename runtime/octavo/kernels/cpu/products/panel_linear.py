"""Products with a weight in panels, as a layer's `Linear`."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Final

import torch

from octavo.kernels.cpu.compiling.jit import TeamKernel
from octavo.kernels.cpu.compiling.team import run_on_team
from octavo.kernels.cpu.products import grouped_products, panel_products, register_products
from octavo.kernels.cpu.products.pack_panels import pack
from octavo.kernels.cpu.products.panel_rows import can_look_up, rows_of_panels
from octavo.kernels.cpu.products.panel_work import COUNTER_SPACING, TILE_ROWS
from octavo.kernels.cpu.products.weight_panels import PanelFormat, Panels
from octavo.kernels.matrix_units import SWITCH, may_use_matrix_units

_log = logging.getLogger(__name__)

LARGEST_ERROR = 0.01
"""Of products by registers, relative: a few times what rounding to bfloat16 makes of it."""

# Rows of the input that all panels are multiplied with in turn: they stay in a core's second cache.
_BLOCK_BYTES = 2**18

_KERNELS = panel_products.KERNELS | grouped_products.KERNELS


class PanelLinear:
    """`[rows, in_features] -> [rows, out_features]`, in the dtype of the input.

    Args:
        dtype: Of the inputs: float32, or bfloat16 with any panels but those of float16.
        bias: `[out_features]`, or None.
    """

    __slots__ = ("_bias", "_block_rows", "_dtype", "_kernel", "panels")

    plain: Final = None

    def __init__(self, panels: Panels, dtype: torch.dtype, bias: torch.Tensor | None) -> None:
        self.panels = panels
        self._dtype = dtype
        registers = _registers_for(panels, dtype)
        self._kernel = registers or _KERNELS[dtype, panels.format]
        self._bias = None if bias is None else bias.float()
        self._block_rows = None if registers else _block_rows(panels.depth * dtype.itemsize)

    @property
    def lookup(self) -> Callable[[torch.Tensor], torch.Tensor] | None:
        """Rows of the weight by output feature; None for what is for products alone: nibbles and groups."""
        if not can_look_up(self.panels.format, self._dtype):
            return None
        return functools.partial(rows_of_panels, self.panels, dtype=self._dtype)

    def __call__(self, x: torch.Tensor, step: object = None) -> torch.Tensor:
        panels, x = self.panels, x.contiguous()
        block_rows = self._block_rows or register_products.block_rows_of(x.shape[0], panels.depth)
        return _multiply(self._kernel, x, panels, self._bias, block_rows)


def _multiply(
    kernel: TeamKernel, x: torch.Tensor, panels: Panels, bias: torch.Tensor | None, block_rows: int
) -> torch.Tensor:
    """`x` `[rows, depth]` is contiguous, `bias` float32."""
    grouping = panels.grouping
    rows, lanes = x.shape[0], torch.get_num_threads()
    out = x.new_empty((rows, panels.width))
    run_on_team(
        kernel,
        x.data_ptr(),
        panels.data.data_ptr(),
        out.data_ptr(),
        0 if panels.scales is None else panels.scales.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        rows,
        panels.depth,
        panels.width,
        panels.data.shape[1],
        block_rows,
        lanes,
        0 if grouping is None else grouping.size,
        0 if grouping is None else int(grouping.has_zeros),
        counters=lanes * COUNTER_SPACING,
    )
    return out


def _block_rows(row_bytes: int) -> int:
    """Whole tiles."""
    return max(_BLOCK_BYTES // row_bytes // TILE_ROWS, 1) * TILE_ROWS


def _registers_for(panels: Panels, dtype: torch.dtype) -> TeamKernel | None:
    """The kernel for AMX, where it takes the panels and is to be used."""
    if (panels.format, dtype) != (PanelFormat.BFLOAT16, torch.bfloat16):
        return None
    return register_products.BY_REGISTERS if registers_take(panels.depth) else None


def registers_take(depth: int) -> bool:
    """Whether a weight in bfloat16 with so many inputs is multiplied with AMX."""
    return depth % register_products.DEPTH_MULTIPLE == 0 and multiplies_by_registers()


@functools.cache
def multiplies_by_registers() -> bool:
    """Whether weights in bfloat16 are multiplied with AMX: this process may use it, and its results for a
    small weight are right. The log says once which it is."""
    if not may_use_matrix_units() or register_products.BY_REGISTERS is None:
        return False
    error = error_of(register_products.BY_REGISTERS)
    if error <= LARGEST_ERROR:
        _log.info("Weights in bfloat16 are multiplied with AMX; %s=0 leaves them to torch.", SWITCH)
        return True
    _log.error(
        "A product with AMX is off by %.3g on this CPU, %.3g is expected at most: torch multiplies weights "
        "in bfloat16. Please report it; %s=0 says so without trying.",
        error,
        LARGEST_ERROR,
        SWITCH,
    )
    return False


def error_of(kernel: TeamKernel) -> float:
    """Of the largest output row of a small product, relative to it; NaN counts as infinite.

    There are a row alone, a few, and more than a group of them, and a panel that is partly filled.
    """
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(80, 320, generator=generator).bfloat16()
    panels, errors = pack(weight, PanelFormat.BFLOAT16), []
    for rows in (1, 7, 75):
        x = torch.randn(rows, 320, generator=generator).bfloat16()
        block_rows = register_products.block_rows_of(rows, 320)
        result = _multiply(kernel, x, panels, None, block_rows).float()
        expected = x.float() @ weight.float().T
        difference = (result - expected).norm(dim=-1) / expected.norm(dim=-1)
        errors.append(float(difference.nan_to_num(torch.inf).max()))
    return max(errors)
