"""Products with a small matrix, where a library's dispatch costs more than the product.

The weight is cut into panels of 64 output features, `[panels, in_features, 64]`: four rows of the input
times one panel are sixteen accumulators, which stay in registers. Values that bfloat16 holds exactly are
stored as such, which loses nothing and halves what a step reads.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch

from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import kernel, part, team_kernel
from octavo.kernels.cpu.compiling.team import is_for_team, run_on_team

PANEL = 64

_SIGNATURE = "void(int64, int64, int64, int64, int64, int64, int64)"


@part
def _four_rows(x: Any, first: int, depth: int, panels: Any, base: int, out: Any) -> None:
    """Four rows from `x[first]` times the panel at `base`; `out` as in `_store`."""
    a0 = a1 = a2 = a3 = v.splat(np.float32(0))
    b0 = b1 = b2 = b3 = c0 = c1 = c2 = c3 = d0 = d1 = d2 = d3 = a0
    for k in range(depth):
        at = base + k * PANEL
        w0, w1 = v.load(panels, at), v.load(panels, at + 16)
        w2, w3 = v.load(panels, at + 32), v.load(panels, at + 48)
        s = v.splat(x[first + k])
        a0, a1 = v.multiply_add(s, w0, a0), v.multiply_add(s, w1, a1)
        a2, a3 = v.multiply_add(s, w2, a2), v.multiply_add(s, w3, a3)
        s = v.splat(x[first + depth + k])
        b0, b1 = v.multiply_add(s, w0, b0), v.multiply_add(s, w1, b1)
        b2, b3 = v.multiply_add(s, w2, b2), v.multiply_add(s, w3, b3)
        s = v.splat(x[first + 2 * depth + k])
        c0, c1 = v.multiply_add(s, w0, c0), v.multiply_add(s, w1, c1)
        c2, c3 = v.multiply_add(s, w2, c2), v.multiply_add(s, w3, c3)
        s = v.splat(x[first + 3 * depth + k])
        d0, d1 = v.multiply_add(s, w0, d0), v.multiply_add(s, w1, d1)
        d2, d3 = v.multiply_add(s, w2, d2), v.multiply_add(s, w3, d3)
    _store(out, 0, a0, a1, a2, a3)
    _store(out, 1, b0, b1, b2, b3)
    _store(out, 2, c0, c1, c2, c3)
    _store(out, 3, d0, d1, d2, d3)


@part
def _one_row(x: Any, first: int, depth: int, panels: Any, base: int, out: Any) -> None:
    """One row; two steps of `depth` at once, so that eight sums are under way."""
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = v.splat(np.float32(0))
    for k in range(0, depth, 2):
        at = base + k * PANEL
        s = v.splat(x[first + k])
        a0 = v.multiply_add(s, v.load(panels, at), a0)
        a1 = v.multiply_add(s, v.load(panels, at + 16), a1)
        a2 = v.multiply_add(s, v.load(panels, at + 32), a2)
        a3 = v.multiply_add(s, v.load(panels, at + 48), a3)
        s = v.splat(x[first + k + 1])
        b0 = v.multiply_add(s, v.load(panels, at + 64), b0)
        b1 = v.multiply_add(s, v.load(panels, at + 80), b1)
        b2 = v.multiply_add(s, v.load(panels, at + 96), b2)
        b3 = v.multiply_add(s, v.load(panels, at + 112), b3)
    _store(out, 0, v.add(a0, b0), v.add(a1, b1), v.add(a2, b2), v.add(a3, b3))


@part
def _store(out: Any, row: int, a: Any, b: Any, c: Any, d: Any) -> None:
    """`out` is (pointer, offset of row 0, width of a row, columns of this panel: a multiple of 16)."""
    pointer, first, width, columns = out
    at = first + row * width
    v.store(pointer, at, a)
    if columns > 16:
        v.store(pointer, at + 16, b)
    if columns > 32:
        v.store(pointer, at + 32, c)
    if columns > 48:
        v.store(pointer, at + 48, d)


@part
def _panel(x: Any, panels: Any, bias: Any, out: Any, sizes: Any, start: int) -> None:
    """The outputs of the panel that begins with output `start`."""
    has_bias, biases = bias
    rows, depth, width = sizes
    columns = min(PANEL, width - start)
    r = 0
    while r + 4 <= rows:
        target = (out, r * width + start, width, columns)
        _four_rows(x, r * depth, depth, panels, start * depth, target)
        r += 4
    while r < rows:
        target = (out, r * width + start, width, columns)
        _one_row(x, r * depth, depth, panels, start * depth, target)
        r += 1
    if has_bias:
        for r in range(start, start + rows * width, width):
            for c in range(0, columns, 16):
                v.store(out, r + c, v.add(v.load(out, r + c), v.load(biases, start + c)))


@part
def _product(x: Any, panels: Any, bias: Any, out: Any, rows: int, depth: int, width: int) -> None:
    for start in range(0, width, PANEL):
        _panel(x, panels, bias, out, (rows, depth, width), start)


@kernel(_SIGNATURE)
def _float32(x: int, panels: int, bias: int, out: int, rows: int, depth: int, width: int) -> None:
    biases = (bias != 0, v.float32_at(bias))
    _product(v.float32_at(x), v.float32_at(panels), biases, v.float32_at(out), rows, depth, width)


@kernel(_SIGNATURE)
def _bfloat16(x: int, panels: int, bias: int, out: int, rows: int, depth: int, width: int) -> None:
    biases = (bias != 0, v.float32_at(bias))
    _product(v.float32_at(x), v.bfloat16_at(panels), biases, v.float32_at(out), rows, depth, width)


@part
def _run(panels: Any, job: Any) -> None:
    """`job` is (zero, x, panels, bias or 0, out, rows, depth, width)."""
    biases = (job[3] != 0, v.float32_at(job[3]))
    sizes = (job[5], job[6], job[7])
    start = v.count_up(job, 0) * PANEL
    while start < job[7]:
        _panel(v.float32_at(job[1]), panels, biases, v.float32_at(job[4]), sizes, start)
        start = v.count_up(job, 0) * PANEL


@team_kernel
def _float32_on_team(address: int) -> None:
    job = v.int64_at(address)
    _run(v.float32_at(job[2]), job)


@team_kernel
def _bfloat16_on_team(address: int) -> None:
    job = v.int64_at(address)
    _run(v.bfloat16_at(job[2]), job)


class SmallLinear:
    """`[rows, in_features] -> [rows, out_features]`, float32.

    Args:
        weight: `[out_features, in_features]` float32; not kept.
        bias: `[out_features]` float32, or None.
    """

    __slots__ = (
        "_bias",
        "_bias_address",
        "_depth",
        "_panels",
        "_panels_address",
        "_run",
        "_run_on_team",
        "_width",
    )

    plain: Final = None
    lookup: Final = None

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._width, self._depth = weight.shape
        narrow = weight.to(torch.bfloat16)
        is_exact = torch.equal(narrow.float(), weight)
        self._run = _bfloat16 if is_exact else _float32
        self._run_on_team = _bfloat16_on_team if is_exact else _float32_on_team
        self._panels = _into_panels(narrow if is_exact else weight)
        self._panels_address = self._panels.data_ptr()
        self._bias = bias
        self._bias_address = 0 if bias is None else bias.data_ptr()

    @staticmethod
    def takes(weight: torch.Tensor) -> bool:
        """Whether the shape suits whole vectors."""
        width, depth = weight.shape
        return weight.dtype is torch.float32 and width % v.LANES == 0 and depth % 2 == 0

    def __call__(self, x: torch.Tensor, step: object = None) -> torch.Tensor:
        x = x.contiguous()
        rows = x.shape[0]
        out = x.new_empty((rows, self._width))
        job = (
            x.data_ptr(),
            self._panels_address,
            self._bias_address,
            out.data_ptr(),
            rows,
            self._depth,
            self._width,
        )
        if is_for_team(0):
            run_on_team(self._run_on_team, *job)
        else:
            self._run(*job)
        return out


def _into_panels(weight: torch.Tensor) -> torch.Tensor:
    width, depth = weight.shape
    padded = torch.nn.functional.pad(weight, (0, 0, 0, -width % PANEL))
    return padded.view(-1, PANEL, depth).transpose(1, 2).contiguous()
