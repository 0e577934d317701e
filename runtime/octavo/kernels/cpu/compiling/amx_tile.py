"""Tile of a product for AMX: `prefill_tile`'s products and a linear layer's, by registers of sixteen rows.

Rows are registers of sixteen keys, sixteen channels of values or sixteen inputs, by 32 numbers; a panel of
queries or weights is two registers side by side, which lie as pairs of bfloat16 are multiplied. Four
registers of sums use each of them twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from octavo.kernels.cpu.compiling import tiles
from octavo.kernels.cpu.compiling import vector as v

WIDTH = 2 * tiles.ROW_ELEMENTS
"""Queries, or output features, of a panel."""
STEP = tiles.ROW_ELEMENTS
"""Pairs that are multiplied in one turn of the loop; a product's depth is a multiple of it."""

_I8, _I64 = ir.IntType(8), ir.IntType(64)
_ELEMENT = 4  # bytes
_PANEL_ROW = _I64(_ELEMENT * WIDTH)
_ROWS_AT, _COLUMNS_AT = 4, 6  # registers


def make_amx_tile(registers: int, *, adds: bool, is_packed: bool = False, asks: int = 0) -> Any:
    """`tile(x, panel, depth, out)`: `out[r] = x[r] @ panel`, or `out[r] + x[r] @ panel` if it `adds`, for one
    or two `registers` of sixteen rows and a panel of 32 queries.

    `x` is (pointer, place, from row to row), `panel` is (pointer, place) of `[depth, 32]` pairs, and `out` is
    (pointer, place) of float32, `[rows, 32]`. A row's pairs lie one behind the other.

    Args:
        is_packed: `x` is `[depth / STEP, rows, STEP]` pairs.
        asks: `panel` is (pointer, place, a place from which on memory is asked for meanwhile, how many times
            so many bytes of it in each turn of the loop). Of 128 CPUs fetch the second line by themselves.
    """
    steps = tiles.ROWS * registers if is_packed else 1

    def tile(typing_context: Any, x: Any, panel: Any, depth: Any, out: Any) -> Any:
        del typing_context, depth

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            del signature
            x, panel, depth, out = arguments
            x, panel, out = (cgutils.unpack_tuple(builder, one) for one in (x, panel, out))
            loop = _Loop(registers, adds=adds, row_step=steps * STEP, asks=asks)
            _emit(builder, loop, (x, panel, depth, out))
            return context.get_dummy_value()

        return types.void(x, panel, types.int64, out), generate

    return v.intrinsic(tile)


@dataclass(frozen=True, slots=True)
class _Loop:
    """See `make_amx_tile`; `row_step` is the elements from one turn's pairs of a row to the next one's."""

    registers: int
    adds: bool
    row_step: int
    asks: int


def _emit(builder: Any, form: _Loop, operands: Any) -> None:
    x, panel, depth, out = operands
    stride = builder.mul(x[2], _I64(_ELEMENT))
    rows = [_bytes(builder, x[0], x[1])]
    rows += [
        builder.gep(rows[0], [builder.mul(stride, _I64(tiles.ROWS * number))])
        for number in range(1, form.registers)
    ]
    columns, out = _bytes(builder, panel[0], panel[1]), _bytes(builder, *out)
    # A register of sums, which is the one at these rows and columns, and where it goes.
    sums = [
        (2 * row + column, row, column, _sixteen(builder, out, row, column))
        for row in range(form.registers)
        for column in range(2)
    ]
    for register, _, _, place in sums:
        if form.adds:
            tiles.load(builder, register, place, _PANEL_ROW)
        else:
            tiles.clear(builder, register)
    with cgutils.for_range(builder, builder.sdiv(depth, _I64(STEP))) as loop:
        if form.asks:
            _ask(builder, _bytes(builder, panel[0], panel[2]), loop.index, panel[3], form.asks)
        pairs = _sixteen(builder, columns, loop.index, 0)
        for column in range(2):
            place = builder.gep(pairs, [_I64(64 * column)])
            tiles.load(builder, _COLUMNS_AT + column, place, _PANEL_ROW)
        across = builder.mul(loop.index, _I64(_ELEMENT * form.row_step))
        for number, start in enumerate(rows):
            tiles.load(builder, _ROWS_AT + number, builder.gep(start, [across]), stride)
        for register, row, column, _ in sums:
            tiles.add_products(builder, register, _ROWS_AT + row, _COLUMNS_AT + column)
    for register, _, _, place in sums:
        tiles.store(builder, register, place, _PANEL_ROW)


def _ask(builder: Any, start: Any, turn: Any, count: Any, size: int) -> None:
    first = builder.mul(turn, count)
    with cgutils.for_range(builder, count) as loop:
        at = builder.mul(builder.add(first, loop.index), _I64(size))
        tiles.ask_for(builder, builder.gep(start, [at]))


def _bytes(builder: Any, pointer: Any, at: Any) -> Any:
    return builder.bitcast(builder.gep(pointer, [at]), _I8.as_pointer())


def _sixteen(builder: Any, address: Any, row: Any, column: int) -> Any:
    """Where the register at `row` and `column` of a panel begins, both counted in registers."""
    row = _I64(row) if isinstance(row, int) else row
    down = builder.mul(row, _I64(tiles.ROWS * _ELEMENT * WIDTH))
    return builder.gep(address, [builder.add(down, _I64(64 * column))])
