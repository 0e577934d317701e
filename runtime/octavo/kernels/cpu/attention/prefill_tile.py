"""Tile of an attention product. The inner loop of both products of a prompt's attention, as LLVM is to
compile it.

Both are rows times a panel of columns, one for each query: keys times queries gives scores, and channels of
values times weights gives the output. So queries, scores, weights and sums all lie with a query in each lane,
and neither a maximum nor a sum over keys ever crosses lanes.

An element is 32 bits: a float, or the pair of bfloat16 that AVX512-BF16 multiplies.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.products import unpack_panels as unpack
from octavo.kernels.cpu.products.unpack_panels import FLOATS

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_INTS = ir.VectorType(_I32, 16)
_ZERO = ir.Constant(FLOATS, [0.0] * 16)
STEP = 4
"""Elements that are multiplied in one turn of the loop; a product's depth is a multiple of it."""


def make_tile(rows: int, vectors: int, *, adds: bool) -> Any:
    """`tile(x, panel, depth, factors, out)`: `out[r] = x[r] @ panel`, or `out[r] * factors + x[r] @ panel`
    if it `adds`, for `rows` rows and a panel of `vectors` times 16 queries.

    `x` is (pointer, place, from row to row, from element to element), `panel` is (pointer, place) of
    `[depth, queries]` elements, `factors` and `out` are (pointer, place) of float32, `[queries]` and
    `[rows, queries]`. `x` and `panel` point to float32, or to int32 for pairs.
    """

    def tile(typing_context: Any, x: Any, panel: Any, depth: Any, factors: Any, out: Any) -> Any:
        del typing_context, depth
        are_pairs = x[0].dtype == types.int32

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            del signature
            x, panel, depth, factors, out = arguments
            x, panel, factors, out = (
                cgutils.unpack_tuple(builder, one) for one in (x, panel, factors, out)
            )
            starts = [builder.mul(x[2], _I64(row)) for row in range(rows)]
            starts = [builder.gep(x[0], [builder.add(x[1], start)]) for start in starts]
            panel, out = builder.gep(panel[0], [panel[1]]), builder.gep(out[0], [out[1]])
            sums = [[_ZERO] * vectors for _ in range(rows)]
            if adds:
                factor = _vectors(builder, builder.gep(factors[0], [factors[1]]), vectors)
                for row in range(rows):
                    place = builder.gep(out, [_I64(row * vectors * 16)])
                    old = _vectors(builder, place, vectors)
                    sums[row] = [builder.fmul(a, b) for a, b in zip(old, factor, strict=True)]
            totals = [[cgutils.alloca_once_value(builder, s) for s in row] for row in sums]
            with cgutils.for_range(builder, builder.sdiv(depth, _I64(STEP))) as loop:
                first = builder.mul(loop.index, _I64(STEP))
                _add_steps(builder, starts, x[3], panel, first, totals, are_pairs)
            for row, row_totals in enumerate(totals):
                for number, total in enumerate(row_totals):
                    place = builder.gep(out, [_I64((row * vectors + number) * 16)])
                    place = builder.bitcast(place, FLOATS.as_pointer())
                    builder.store(builder.load(total), place, align=4)
            return context.get_dummy_value()

        return types.void(x, panel, types.int64, factors, out), generate

    return v.intrinsic(tile)


def _add_steps(
    builder: Any,
    starts: list[Any],
    stride: Any,
    panel: Any,
    first: Any,
    totals: list[list[Any]],
    are_pairs: bool,
) -> None:
    """Adds `STEP` elements of depth, from `first` on."""
    vectors = len(totals[0])
    sums = [[builder.load(total) for total in row] for row in totals]
    for step in range(STEP):
        at = builder.add(first, _I64(step))
        columns = builder.gep(panel, [builder.mul(at, _I64(16 * vectors))])
        columns = _vectors(builder, columns, vectors)
        offset = builder.mul(at, stride)
        for row, start in enumerate(starts):
            element = builder.load(builder.gep(start, [offset]))
            element = unpack.splat(builder, element, _INTS if are_pairs else FLOATS)
            for number, column in enumerate(columns):
                sums[row][number] = _dot(builder, sums[row][number], element, column, are_pairs)
    for row_sums, row_totals in zip(sums, totals, strict=True):
        for value, total in zip(row_sums, row_totals, strict=True):
            builder.store(value, total)


def _dot(builder: Any, total: Any, a: Any, b: Any, are_pairs: bool) -> Any:
    if are_pairs:
        return v.call(builder, "llvm.x86.avx512bf16.dpbf16ps.512", FLOATS, total, b, a)
    return unpack.multiply_add(builder, a, b, total)


def _vectors(builder: Any, place: Any, count: int) -> list[Any]:
    """`count` vectors of the elements at `place`."""
    is_float = place.type.pointee == ir.FloatType()
    kind = FLOATS if is_float else _INTS
    return [
        unpack.load(builder, builder.bitcast(place, ir.IntType(8).as_pointer()), 64 * number, kind)
        for number in range(count)
    ]
