"""Layout of a prompt's attention. How queries, keys, values and weights are laid out for `prefill_tile` and
`amx_tile`, in the arithmetics that CPUs have.

A key block's values come to lie with the two keys of a pair side by side, which is the order that
AVX512-BF16 and AMX multiply in; elsewhere everything is widened to float32. Either is done once for all
queries that attend to the block.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from octavo.kernels.cpu.attention.prefill_tile import STEP
from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import part
from octavo.kernels.cpu.products.unpack_panels import FLOATS, ask_for, load

_I8, _I32 = ir.IntType(8), ir.IntType(32)
_INTS = ir.VectorType(_I32, 16)
_SHORTS = ir.VectorType(ir.IntType(16), 16)
_I = types.int64
AHEAD = 12
"""Tokens from what is copied to what is asked for."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Of one arithmetic; see `prefill_tile` for what an element is.

    Args:
        packing: Numbers in an element.
        step: Elements of depth that a product takes at a time.
        row_step: Elements of which a row of keys has a whole number.
        elements_at: Makes a pointer to elements.
        copy_row: `(source, at, count, target, target_at)`: so many numbers of one row.
        copy_values: `(cache, at, second_at, count, target, target_at, stride)`: so many channels of
            `packing` keys' values, each sixteen `stride` elements behind the last. There is no second key
            where `second_at` is negative.
        store_weights: `(weights, at, first, second)`: those of `packing` keys.
    """

    packing: int
    step: int
    row_step: int
    elements_at: Any
    copy_row: Any
    copy_values: Any
    store_weights: Any

    def by_steps(self, step: int, copy_row: Any) -> Layout:
        """With longer rows, for products that take so much of them at a time."""
        return replace(self, step=step, row_step=step, copy_row=copy_row)


def make_gather(layout: Layout) -> Any:
    """`gather(cache, pages, first, n, d, keys, values)`, a `part`: keys `[first, first + n)` of a sequence.

    `pages` is (its table, tokens of a block, numbers of a token, the places of its head's key and value in
    it). `keys` is a pointer to `[n, d / packing]` elements. `values` is (pointer, elements from key to key,
    elements from sixteen channels to the next) of `n / packing` rows, whole steps of them: what is beyond
    is 0.
    """
    packing, step = layout.packing, layout.step
    copy_row, copy_values = layout.copy_row, layout.copy_values

    @part
    def gather(cache: Any, pages: Any, first: int, n: int, d: int, keys: Any, values: Any) -> None:
        key_at, value_at = pages[3], pages[4]
        target, stride, sixteen = values
        for t in range(min(n, AHEAD)):
            ask_for_token(cache, pages, first + t, d)
        for t in range(0, n, packing):
            for ahead in range(t + AHEAD, min(t + AHEAD + packing, n)):
                ask_for_token(cache, pages, first + ahead, d)
            at = place_of(pages, first + t)
            copy_row(cache, at + key_at, d, keys, t * (d // packing))
            second = np.int64(-1)
            if packing == 2 and t + 1 < n:
                next_at = place_of(pages, first + t + 1)
                copy_row(cache, next_at + key_at, d, keys, (t + 1) * (d // packing))
                second = next_at + value_at
            copy_values(cache, at + value_at, second, d, target, t // packing * stride, sixteen)
        filled = (n + packing - 1) // packing
        for row in range(filled, (filled + step - 1) // step * step):
            for c in range(d):
                target[row * stride + c // 16 * sixteen + c % 16] = 0

    return gather


@part
def ask_for_token(cache: Any, pages: Any, position: int, d: int) -> None:
    """Has a token's key and value fetched: tokens lie a page apart, and no CPU sees the next one coming."""
    at = place_of(pages, position)
    for c in range(0, d, 32):
        _ask_for_line(cache, at + pages[3] + c)
        _ask_for_line(cache, at + pages[4] + c)


@part
def place_of(pages: Any, position: int) -> Any:
    """Where a token lies in the cache."""
    table, size, stride = pages[0], pages[1], pages[2]
    return (table[position // size] * size + position % size) * stride


def _bytes(builder: Any, pointer: Any, at: Any) -> Any:
    return builder.bitcast(builder.gep(pointer, [at]), _I8.as_pointer())


def _store(builder: Any, value: Any, address: Any, offset: int = 0) -> None:
    place = builder.gep(address, [ir.IntType(64)(offset)])
    builder.store(value, builder.bitcast(place, value.type.as_pointer()), align=1)


@v.intrinsic
def transpose(
    typing_context: Any, source: Any, at: Any, target: Any, target_at: Any, stride: Any
) -> Any:
    """`target[target_at + i * stride + j] = source[at + j * rows + i]`, where `at` is (place, rows): sixteen
    by sixteen elements, whatever their bits mean."""
    del typing_context, target_at, stride

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        source, at, target, target_at, stride = arguments
        first, from_row = cgutils.unpack_tuple(builder, at)
        rows = []
        for row in range(16):
            place = builder.add(first, builder.mul(from_row, ir.IntType(64)(row)))
            rows.append(load(builder, _bytes(builder, source, place), 0, FLOATS))
        for run in (1, 2, 4, 8):
            rows = _exchanged(builder, rows, run)
        for number, row in enumerate(rows):
            place = builder.add(target_at, builder.mul(stride, ir.IntType(64)(number)))
            _store(builder, row, _bytes(builder, target, place))
        return context.get_dummy_value()

    return types.void(source, at, target, _I, _I), generate


def _exchanged(builder: Any, rows: list[Any], run: int) -> list[Any]:
    """Squares of `run` by `run` right of the diagonal change places with those left of it."""
    changed = list(rows)
    for number in range(16):
        if number & run:
            continue
        a, b = rows[number], rows[number + run]
        low = [16 + i - run if i & run else i for i in range(16)]
        high = [16 + i if i & run else i + run for i in range(16)]
        for place, order in ((number, low), (number + run, high)):
            changed[place] = builder.shuffle_vector(a, b, ir.Constant(_INTS, order))
    return changed


@v.intrinsic
def at_most(typing_context: Any, place: Any, limit: Any, value: Any, other: Any) -> Any:
    """`value` where `place <= limit`, else `other`."""
    del typing_context, place, limit, value, other

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        place, limit, value, other = arguments
        return builder.select(builder.fcmp_ordered("<=", place, limit), value, other)

    return v.VECTOR(*[v.VECTOR] * 4), generate


@v.intrinsic
def _copy_sixteen(typing_context: Any, source: Any, at: Any, target: Any, target_at: Any) -> Any:
    """Sixteen bfloat16, which are eight elements, as they are."""
    del typing_context, at, target_at

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        source, at, target, target_at = arguments
        numbers = load(builder, _bytes(builder, source, at), 0, _SHORTS)
        _store(builder, numbers, _bytes(builder, target, target_at))
        return context.get_dummy_value()

    return types.void(source, _I, target, _I), generate


@v.intrinsic
def _interleave(
    typing_context: Any, cache: Any, at: Any, second_at: Any, target: Any, target_at: Any
) -> Any:
    """Sixteen pairs of a bfloat16 of the first row and one of the second."""
    del typing_context, at, second_at, target_at

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        cache, at, second_at, target, target_at = arguments
        has_second = builder.icmp_signed(">=", second_at, second_at.type(0))
        second_at = builder.select(has_second, second_at, at)
        low, high = (
            builder.zext(load(builder, _bytes(builder, cache, place), 0, _SHORTS), _INTS)
            for place in (at, second_at)
        )
        high = builder.shl(high, ir.Constant(_INTS, [16] * 16))
        high = builder.select(has_second, high, ir.Constant(_INTS, [0] * 16))
        _store(builder, builder.or_(low, high), _bytes(builder, target, target_at))
        return context.get_dummy_value()

    return types.void(cache, _I, _I, target, _I), generate


@v.intrinsic
def _store_rounded_pairs(typing_context: Any, target: Any, at: Any, first: Any, second: Any) -> Any:
    """Sixteen pairs of finite floats, rounded to the nearest bfloat16."""
    del typing_context, at, first, second

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        target, at, first, second = arguments
        half = ir.Constant(_INTS, [0x8000] * 16)
        low, high = (builder.add(builder.bitcast(x, _INTS), half) for x in (first, second))
        low = builder.lshr(low, ir.Constant(_INTS, [16] * 16))
        high = builder.and_(high, ir.Constant(_INTS, [0xFFFF0000] * 16))
        _store(builder, builder.or_(low, high), _bytes(builder, target, at))
        return context.get_dummy_value()

    return types.void(target, _I, v.VECTOR, v.VECTOR), generate


@v.intrinsic
def _ask_for_line(typing_context: Any, source: Any, at: Any) -> Any:
    """Has the cache line of `source[at]` fetched; for float32 that of `source[at + 16]` too."""
    del typing_context, at
    num_bytes = 128 if source.dtype == types.float32 else 64

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        ask_for(builder, _bytes(builder, *arguments), num_bytes)
        return context.get_dummy_value()

    return types.void(source, _I), generate


@part
def copy_row_of_pairs(source: Any, at: int, count: int, target: Any, target_at: int) -> None:
    for c in range(0, count, 16):
        _copy_sixteen(source, at + c, target, target_at + c // 2)


@part
def copy_values_of_pairs(
    cache: Any, at: int, second_at: int, count: int, target: Any, target_at: int, stride: int
) -> None:
    for c in range(0, count, 16):
        second = second_at + c if second_at >= 0 else second_at
        _interleave(cache, at + c, second, target, target_at + c // 16 * stride)


@part
def _copy_row(source: Any, at: int, count: int, target: Any, target_at: int) -> None:
    for c in range(0, count, 16):
        v.store(target, target_at + c, v.load(source, at + c))


@part
def _copy_values(
    cache: Any, at: int, second_at: int, count: int, target: Any, target_at: int, stride: int
) -> None:
    for c in range(0, count, 16):
        v.store(target, target_at + c // 16 * stride, v.load(cache, at + c))


@part
def _store_weights(weights: Any, at: int, first: Any, second: Any) -> None:
    v.store(weights, at, first)


FLOAT32 = Layout(1, STEP, 1, v.float32_at, _copy_row, _copy_values, _store_weights)
PAIRS = Layout(
    2, STEP, 1, v.int32_at, copy_row_of_pairs, copy_values_of_pairs, _store_rounded_pairs
)
