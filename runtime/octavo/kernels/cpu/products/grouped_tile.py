"""Tile of a product with grouped weights. As `panel_tile`, where so many inputs share a scale as a checkpoint
says, and where zero may be another integer in each group.

What stands for zero is not taken from each weight but, times the sum of the group's inputs, from the group's
sum: a vector's work for a group instead of one for each pair.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.products import unpack_panels as unpack
from octavo.kernels.cpu.products.panel_tile import (
    add_step,
    places_of_sums,
    starts_of_rows,
    store_totals,
    unpacked_halves,
)
from octavo.kernels.cpu.products.register_blocks import Block, blocks_of
from octavo.kernels.cpu.products.unpack_panels import FLOATS, Arithmetic
from octavo.kernels.cpu.products.weight_panels import (
    PANEL,
    STEP,
    ZERO_BYTES,
    PanelFormat,
)

_I8, _I64 = ir.IntType(8), ir.IntType(64)
_ZERO = ir.Constant(FLOATS, [0.0] * 16)
_UNPACKINGS = {
    PanelFormat.GROUPED_INT4: unpack.INT4,
    PanelFormat.GROUPED_INT8: unpack.WHOLE_INT8,
    PanelFormat.GROUPED_FLOAT8: unpack.FLOAT8,
    PanelFormat.GROUPED_MXFP4: unpack.FLOAT4,
}


def make_grouped_tile(rows: int, panel_format: PanelFormat) -> Any:
    """`tile(x, x_at, last, depth, panel, panel_at, group, has_zeros, group_sums, out)`: as
    `panel_tile.make_tile`, of panels of `panel_format`, which are bytes.

    `group` inputs share a scale. With zeros, `group_sums` is `[rows, groups]` float32, the sums of each
    row's groups; its row `last` is repeated as that of `x` is.
    """

    def tile(
        typing_context: Any,
        x: Any,
        x_at: Any,
        last: Any,
        depth: Any,
        panel: Any,
        panel_at: Any,
        group: Any,
        has_zeros: Any,
        group_sums: Any,
        out: Any,
    ) -> Any:
        del typing_context, x_at, last, depth, panel_at, group, has_zeros
        emitter = _Emitter(panel_format, Arithmetic.of(x), x.dtype == types.float32)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            del signature
            emitter.emit(builder, rows, arguments)
            return context.get_dummy_value()

        i = types.int64
        signature = types.void(x, i, i, i, panel, i, i, i, group_sums, out)
        return signature, generate

    return v.intrinsic(tile)


class _Emitter:
    """What does not change from one group to the next."""

    def __init__(self, panel_format: PanelFormat, arithmetic: Arithmetic, is_wide: bool) -> None:
        self._unpacking = _UNPACKINGS[panel_format]
        self._scale_bytes = panel_format.scale_bytes
        self._arithmetic = arithmetic
        self._is_wide = is_wide

    def emit(self, builder: Any, rows: int, arguments: Any) -> None:
        x, x_at, last, depth, panel, panel_at, group, has_zeros, group_sums, out = arguments
        panel = builder.bitcast(builder.gep(panel, [panel_at]), _I8.as_pointer())
        has_zeros = builder.icmp_signed("!=", has_zeros, _I64(0))
        without, with_zeros = _I64(self._scale_bytes), _I64(self._scale_bytes + ZERO_BYTES)
        header_bytes = builder.select(has_zeros, with_zeros, without)
        steps, groups = builder.sdiv(group, _I64(STEP)), builder.sdiv(depth, group)
        data_bytes = builder.mul(steps, _I64(self._unpacking.step_bytes))
        stride = builder.add(header_bytes, data_bytes)
        row_starts = starts_of_rows(builder, rows, x, x_at, last, depth)
        sum_starts = starts_of_rows(builder, rows, group_sums, _I64(0), last, groups)
        for block in blocks_of(rows, unpacks_once=self._unpacking.is_costly):
            totals, sums = (places_of_sums(builder, block) for _ in range(2))
            starts, inputs = ([of[row] for row in block.rows] for of in (row_starts, sum_starts))
            with cgutils.for_range(builder, groups) as loop:
                scales = builder.gep(panel, [builder.mul(loop.index, stride)])
                data = builder.gep(scales, [header_bytes])
                first = builder.mul(loop.index, group)
                self._add_group(builder, block, data, first, steps, starts, sums)
                with builder.if_then(has_zeros):
                    zeros = builder.gep(scales, [without])
                    _take_zeros(builder, block, zeros, loop.index, inputs, sums)
                self._scale(builder, block, scales, sums, totals)
            store_totals(builder, block, totals, out)

    def _add_group(
        self,
        builder: Any,
        block: Block,
        data: Any,
        first: Any,
        steps: Any,
        row_starts: list[Any],
        sums: list[list[Any]],
    ) -> None:
        for place in _places(sums):
            builder.store(_ZERO, place)
        step_bytes, ahead = self._unpacking.step_bytes, self._unpacking.ahead
        with cgutils.for_range(builder, steps) as loop:
            address = builder.gep(data, [builder.mul(loop.index, _I64(step_bytes))])
            unpack.ask_for(builder, builder.gep(address, [_I64(ahead)]), step_bytes)
            at = builder.add(first, builder.mul(loop.index, _I64(STEP)))
            values = [[builder.load(place) for place in row] for row in sums]
            halves = unpacked_halves(builder, self._unpacking, address, self._arithmetic, block)
            add_step(builder, halves, at, row_starts, self._is_wide, self._arithmetic, values)
            for value, place in zip(_places(values), _places(sums), strict=True):
                builder.store(value, place)

    def _scale(
        self,
        builder: Any,
        block: Block,
        scales: Any,
        sums: list[list[Any]],
        totals: list[list[Any]],
    ) -> None:
        """A group's sums, times its scales, are added to the totals."""
        for place, half in enumerate(block.halves):
            if self._scale_bytes == PANEL:
                scale = unpack.load_powers_of_two(builder, scales, 16 * half)
            else:
                scale = unpack.load(builder, scales, 64 * half, FLOATS)
            for row_sums, row_totals in zip(sums, totals, strict=True):
                total = builder.load(row_totals[place])
                value = unpack.multiply_add(builder, builder.load(row_sums[place]), scale, total)
                builder.store(value, row_totals[place])


def _places(rows: list[list[Any]]) -> list[Any]:
    return [place for row in rows for place in row]


def _take_zeros(
    builder: Any,
    block: Block,
    zeros: Any,
    group: Any,
    sum_starts: list[Any],
    sums: list[list[Any]],
) -> None:
    """Takes zero times the group's inputs from each sum."""
    inputs = [builder.load(builder.gep(start, [group])) for start in sum_starts]
    inputs = [unpack.splat(builder, builder.fneg(value), FLOATS) for value in inputs]
    for place, half in enumerate(block.halves):
        zero = unpack.load_bfloat16(builder, zeros, 32 * half)
        for row, value in zip(sums, inputs, strict=True):
            taken = unpack.multiply_add(builder, zero, value, builder.load(row[place]))
            builder.store(taken, row[place])
