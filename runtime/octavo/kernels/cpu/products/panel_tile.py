"""Tile of a product. The inner loop of a product: up to eight rows times one panel of weights, as LLVM is to
compile it.

A row's sums are added in the same order in every tile: what comes out does not depend on how many rows
there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.products import unpack_panels as unpack
from octavo.kernels.cpu.products.register_blocks import Block, blocks_of
from octavo.kernels.cpu.products.unpack_panels import FLOATS, Arithmetic
from octavo.kernels.cpu.products.weight_panels import PANEL, STEP
from octavo.kernels.reference.weight_only import INT4_GROUP

_I8, _I64 = ir.IntType(8), ir.IntType(64)
_ZERO = ir.Constant(FLOATS, [0.0] * 16)


_ASKED_OF_A_STEP = 2
"""Of a step's bytes, what part of as many bytes a tile asks for that others follow: two ask for a panel."""


def make_tile(rows: int) -> Any:
    """`tile(x, x_at, last, depth, panel, panel_at, out)`: `out[r] = x[r] @ panel` for `rows` rows.

    `x` points to float32 or bfloat16; row r begins at `x_at + min(r, last) * depth`. The type that
    `panel` points to tells its format: uint16 and int16 are bfloat16 and float16, int8 and uint8 are int8 and
    int4. `out` is float32, 32 for each row; an output feature's scale (int8) is left to the caller.
    """

    def tile(
        typing_context: Any,
        x: Any,
        x_at: Any,
        last: Any,
        depth: Any,
        panel: Any,
        panel_at: Any,
        out: Any,
    ) -> Any:
        del typing_context, x_at, last, depth, panel_at
        arithmetic = Arithmetic.of(x)
        weights = _FORMATS[panel.dtype]

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            del signature
            _emit(builder, rows, x.dtype == types.float32, arithmetic, weights, arguments)
            return context.get_dummy_value()

        i = types.int64
        return types.void(x, i, i, i, panel, i, out), generate

    return v.intrinsic(tile)


def make_asking_tile(rows: int) -> Any:
    """As `make_tile`, with one argument more: from which weight on half a panel is asked for meanwhile.

    A tile whose panel lies in a cache leaves memory idle; with those behind it the next panel comes then.
    """

    def tile(
        typing_context: Any,
        x: Any,
        x_at: Any,
        last: Any,
        depth: Any,
        panel: Any,
        panel_at: Any,
        out: Any,
        asked_at: Any,
    ) -> Any:
        del typing_context, x_at, last, depth, panel_at, asked_at
        arithmetic = Arithmetic.of(x)
        weights = _FORMATS[panel.dtype]

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            del signature
            *operands, asked_at = arguments
            asked = builder.bitcast(builder.gep(operands[4], [asked_at]), _I8.as_pointer())
            is_wide = x.dtype == types.float32
            _emit(builder, rows, is_wide, arithmetic, weights, operands, asked)
            return context.get_dummy_value()

        i = types.int64
        return types.void(x, i, i, i, panel, i, out, i), generate

    return v.intrinsic(tile)


@dataclass(frozen=True, slots=True)
class _Format:
    """`group`: steps that share scales; 0: none do."""

    unpacking: unpack.Unpacking
    group: int


_FORMATS = {
    types.uint16: _Format(unpack.BFLOAT16, 0),
    types.int16: _Format(unpack.FLOAT16, 0),
    types.int8: _Format(unpack.INT8, 0),
    types.uint8: _Format(unpack.INT4, INT4_GROUP // STEP),
}


def _emit(
    builder: Any,
    rows: int,
    is_wide: bool,
    arithmetic: Arithmetic,
    weights: _Format,
    arguments: Any,
    asked: Any = None,
) -> None:
    x, x_at, last, depth, panel, panel_at, out = arguments
    panel = builder.bitcast(builder.gep(panel, [panel_at]), _I8.as_pointer())
    row_starts = starts_of_rows(builder, rows, x, x_at, last, depth)
    for block in blocks_of(rows, unpacks_once=weights.unpacking.is_costly):
        starts = [row_starts[row] for row in block.rows]
        operands = (depth, panel, starts)
        totals = _block_totals(builder, block, is_wide, arithmetic, weights, operands, asked)
        store_totals(builder, block, totals, out)


def _block_totals(
    builder: Any,
    block: Block,
    is_wide: bool,
    arithmetic: Arithmetic,
    weights: _Format,
    operands: tuple[Any, Any, list[Any]],
    asked: Any,
) -> list[list[Any]]:
    """Where a block's sums are; `operands` are depth, panel and where the block's rows begin."""
    depth, panel, row_starts = operands
    unpacking = weights.unpacking
    totals = places_of_sums(builder, block)
    steps = max(weights.group, 1)
    scale_bytes = 2 * PANEL if weights.group else 0
    turn_bytes = scale_bytes + steps * unpacking.step_bytes
    turns = builder.sdiv(depth, _I64(steps * STEP))
    with cgutils.for_range(builder, turns) as loop:
        scales = builder.gep(panel, [builder.mul(loop.index, _I64(turn_bytes))])
        data = builder.gep(scales, [_I64(scale_bytes)])
        if unpacking.ahead:
            unpack.ask_for(builder, builder.gep(scales, [_I64(unpacking.ahead)]), turn_bytes)
        if asked is not None:
            part = turn_bytes // _ASKED_OF_A_STEP
            place = builder.gep(asked, [builder.mul(loop.index, _I64(part))])
            unpack.ask_for(builder, place, part, into=unpack.SECOND_CACHE)
        first = builder.mul(loop.index, _I64(steps * STEP))
        sums = [[_ZERO if weights.group else builder.load(t) for t in row] for row in totals]
        for step in range(steps):
            address = builder.gep(data, [_I64(step * unpacking.step_bytes)])
            at = builder.add(first, _I64(step * STEP))
            halves = unpacked_halves(builder, unpacking, address, arithmetic, block)
            add_step(builder, halves, at, row_starts, is_wide, arithmetic, sums)
        if weights.group:
            _scale(builder, block, scales, sums, totals)
        for row_sums, row_totals in zip(sums, totals, strict=True):
            for value, total in zip(row_sums, row_totals, strict=True):
                builder.store(value, total)
    return totals


def places_of_sums(builder: Any, block: Block) -> list[list[Any]]:
    """Of each row and half, zero at first."""
    return [[cgutils.alloca_once_value(builder, _ZERO) for _ in block.halves] for _ in block.rows]


def starts_of_rows(builder: Any, rows: int, x: Any, x_at: Any, last: Any, depth: Any) -> list[Any]:
    """Where each row of a tile begins; `last` is repeated where there are fewer."""
    starts = [x]
    for row in range(1, rows):
        is_last = builder.icmp_signed("<", last, _I64(row))
        index = builder.select(is_last, last, _I64(row))
        starts.append(builder.gep(x, [builder.mul(index, depth)]))
    return [builder.gep(start, [x_at]) for start in starts]


def unpacked_halves(
    builder: Any,
    unpacking: unpack.Unpacking,
    address: Any,
    arithmetic: Arithmetic,
    block: Block,
) -> list[list[Any]]:
    """Of each pair of a step, the block's halves of the panel."""
    pairs = unpacking(builder, address, arithmetic)
    return [[halves[half] for half in block.halves] for halves in pairs]


def add_step(
    builder: Any,
    pairs: list[list[Any]],
    at: Any,
    row_starts: list[Any],
    is_wide: bool,
    arithmetic: Arithmetic,
    sums: list[list[Any]],
) -> None:
    """Adds a step's products to `sums`, of the inputs from `at` on."""
    for pair, halves in enumerate(pairs):
        place = builder.add(at, _I64(2 * pair))
        for row, start in enumerate(row_starts):
            inputs = arithmetic.broadcast(builder, start, place, is_wide)
            for half, weight in enumerate(halves):
                sums[row][half] = arithmetic.dot(builder, sums[row][half], weight, inputs)


def store_totals(builder: Any, block: Block, totals: list[list[Any]], out: Any) -> None:
    for row, row_totals in zip(block.rows, totals, strict=True):
        for half, total in zip(block.halves, row_totals, strict=True):
            place = builder.gep(out, [_I64(row * PANEL + 16 * half)])
            builder.store(builder.load(total), builder.bitcast(place, FLOATS.as_pointer()), align=4)


def _scale(
    builder: Any, block: Block, scales: Any, sums: list[list[Any]], totals: list[list[Any]]
) -> None:
    """A group's sums become the totals with them."""
    for place, half in enumerate(block.halves):
        scale = unpack.load_bfloat16(builder, scales, 32 * half)
        for row_sums, row_totals in zip(sums, totals, strict=True):
            total = builder.load(row_totals[place])
            row_sums[place] = unpack.multiply_add(builder, row_sums[place], scale, total)
