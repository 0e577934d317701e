"""Tile of a product. The inner loop of a product: up to eight rows times one panel of weights, as LLVM is to
compile it.

On CPUs with AVX512-BF16 and -VBMI a pair of inputs is one instruction for sixteen output features, and
integers become bfloat16 by looking them up, which is exact. Elsewhere both sides are widened to float32.
A row's sums are added in the same order in every tile: what comes out does not depend on how many rows
there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.products.weight_panels import PANEL, STEP
from octavo.kernels.reference.weight_only import INT4_GROUP

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_FLOATS = ir.VectorType(ir.FloatType(), 16)
_INTS = ir.VectorType(_I32, 16)
_WORDS = ir.VectorType(_I16, 32)
_BYTES = ir.VectorType(_I8, 64)
_PAIRS_PER_STEP = STEP // 2
_STEPS_PER_GROUP = INT4_GROUP // STEP


def has_pair_products() -> bool:
    """Whether kernels are compiled for a CPU that multiplies pairs of bfloat16."""
    features = (numba.config.CPU_FEATURES or "").split(",")
    return {"+avx512bf16", "+avx512vbmi"} <= set(features)


def make_tile(rows: int) -> Any:
    """`tile(x, x_at, last, depth, panel, panel_at, out)`: `out[r] = x[r] @ panel` for `rows` rows.

    `x` points to float32 or bfloat16; row r begins at `x_at + min(r, last) * depth`. The type that
    `panel` points to tells its format: uint16 is bfloat16, int8 and uint8 are int8 and int4. `out` is
    float32, 32 for each row; an output feature's scale (int8) is left to the caller.
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
        arithmetic = _PAIRS if has_pair_products() and x.dtype == types.uint16 else _WIDENED
        weights = _FORMATS[panel.dtype]

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            del signature
            _emit(builder, rows, x.dtype == types.float32, arithmetic, weights, arguments)
            return context.get_dummy_value()

        i = types.int64
        return types.void(x, i, i, i, panel, i, out), generate

    return v.intrinsic(tile)


class _Format:
    """How a panel's bytes become vectors.

    Args:
        group: Steps that share scales; 0: none do.
        ahead: Bytes from what is used to what is asked for, 0: the CPU sees by itself what comes next. It
            does so too late while it unpacks integers: asking took a tenth off their products.
    """

    def __init__(
        self, step_bytes: int, group: int, ahead: int, pairs: _Unpack, widened: _Unpack
    ) -> None:
        self.step_bytes = step_bytes
        self.group = group
        self.ahead = ahead
        self.unpack = {True: pairs, False: widened}


_Unpack = Callable[[Any, Any], list[list[Any]]]
"""From a builder and the address of a step: of each pair, the two halves of its panel."""


class _Arithmetic:
    """`are_pairs`: vectors are sixteen pairs of bfloat16; else two vectors of floats, one of each parity."""

    def __init__(self, are_pairs: bool) -> None:
        self.are_pairs = are_pairs

    def dot(self, builder: Any, total: Any, weight: Any, x: Any) -> Any:
        """`total` plus the products of both inputs."""
        if self.are_pairs:
            name = "llvm.x86.avx512bf16.dpbf16ps.512"
            return v.call(builder, name, _FLOATS, total, weight, x)
        for a, b in zip(weight, x, strict=True):
            total = v.call(builder, "llvm.fmuladd.v16f32", _FLOATS, a, b, total)
        return total

    def broadcast(self, builder: Any, x: Any, at: Any, is_wide: bool) -> Any:
        """Inputs `x[at]` and `x[at + 1]` in all lanes."""
        place = builder.gep(x, [at])
        if self.are_pairs:
            pair = builder.load(builder.bitcast(place, _I32.as_pointer()), align=2)
            return _splat(builder, pair, _INTS)
        found = []
        for parity in range(2):
            value = builder.load(builder.gep(place, [_I64(parity)]))
            if not is_wide:
                value = builder.shl(builder.zext(value, _I32), _I32(16))
                value = builder.bitcast(value, ir.FloatType())
            found.append(_splat(builder, value, _FLOATS))
        return tuple(found)


_PAIRS, _WIDENED = _Arithmetic(True), _Arithmetic(False)


def _emit(
    builder: Any,
    rows: int,
    is_wide: bool,
    arithmetic: _Arithmetic,
    weights: _Format,
    arguments: Any,
) -> None:
    x, x_at, last, depth, panel, panel_at, out = arguments
    panel = builder.bitcast(builder.gep(panel, [panel_at]), _I8.as_pointer())
    row_starts = [x]
    for row in range(1, rows):
        is_last = builder.icmp_signed("<", last, _I64(row))
        index = builder.select(is_last, last, _I64(row))
        row_starts.append(builder.gep(x, [builder.mul(index, depth)]))
    row_starts = [builder.gep(start, [x_at]) for start in row_starts]
    zero = ir.Constant(_FLOATS, [0.0] * 16)
    totals = [[cgutils.alloca_once_value(builder, zero) for _ in range(2)] for _ in range(rows)]
    steps = max(weights.group, 1)
    scale_bytes = 2 * PANEL if weights.group else 0
    turn_bytes = scale_bytes + steps * weights.step_bytes
    turns = builder.sdiv(depth, _I64(steps * STEP))
    with cgutils.for_range(builder, turns) as loop:
        scales = builder.gep(panel, [builder.mul(loop.index, _I64(turn_bytes))])
        data = builder.gep(scales, [_I64(scale_bytes)])
        if weights.ahead:
            _ask_for(builder, builder.gep(scales, [_I64(weights.ahead)]), turn_bytes)
        first = builder.mul(loop.index, _I64(steps * STEP))
        sums = [[zero if weights.group else builder.load(t) for t in row] for row in totals]
        for step in range(steps):
            address = builder.gep(data, [_I64(step * weights.step_bytes)])
            pairs = weights.unpack[arithmetic.are_pairs](builder, address)
            for pair, halves in enumerate(pairs):
                at = builder.add(first, _I64(step * STEP + 2 * pair))
                for row, start in enumerate(row_starts):
                    inputs = arithmetic.broadcast(builder, start, at, is_wide)
                    for half, weight in enumerate(halves):
                        sums[row][half] = arithmetic.dot(builder, sums[row][half], weight, inputs)
        if weights.group:
            _scale(builder, scales, sums, totals)
        for row_sums, row_totals in zip(sums, totals, strict=True):
            for value, total in zip(row_sums, row_totals, strict=True):
                builder.store(value, total)
    for row, row_totals in enumerate(totals):
        for half, total in enumerate(row_totals):
            place = builder.gep(out, [_I64(row * PANEL + 16 * half)])
            builder.store(
                builder.load(total), builder.bitcast(place, _FLOATS.as_pointer()), align=4
            )


def _ask_for(builder: Any, address: Any, count: int) -> None:
    """Has `count` bytes fetched into the nearest cache; they may lie beyond the weight."""
    kind = ir.FunctionType(ir.VoidType(), [address.type, _I32, _I32, _I32])
    fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    for_reading, to_all_caches, of_data = _I32(0), _I32(3), _I32(1)
    for line in range(0, count, 64):
        place = builder.gep(address, [_I64(line)])
        builder.call(fetch, [place, for_reading, to_all_caches, of_data])


def _scale(builder: Any, scales: Any, sums: list[list[Any]], totals: list[list[Any]]) -> None:
    """A group's sums become the totals with them."""
    for half in range(2):
        narrow = _load(builder, scales, 32 * half, ir.VectorType(_I16, 16))
        bits = builder.shl(builder.zext(narrow, _INTS), _ints(16))
        scale = builder.bitcast(bits, _FLOATS)
        for row_sums, row_totals in zip(sums, totals, strict=True):
            total = builder.load(row_totals[half])
            row_sums[half] = v.call(
                builder, "llvm.fmuladd.v16f32", _FLOATS, row_sums[half], scale, total
            )


def _bfloat16_pairs(builder: Any, address: Any) -> list[list[Any]]:
    return [
        [_load(builder, address, 128 * pair + 64 * half, _INTS) for half in range(2)]
        for pair in range(_PAIRS_PER_STEP)
    ]


def _bfloat16_widened(builder: Any, address: Any) -> list[list[Any]]:
    def widen(bits: Any) -> tuple[Any, Any]:
        low = builder.shl(bits, _ints(16))
        high = builder.and_(bits, _ints(0xFFFF0000))
        return builder.bitcast(low, _FLOATS), builder.bitcast(high, _FLOATS)

    return [[widen(half) for half in pair] for pair in _bfloat16_pairs(builder, address)]


def _int8_pairs(builder: Any, address: Any) -> list[list[Any]]:
    """Magnitudes are looked up byte by byte, signs joined to the high one, and the bytes interleaved."""
    low, high = (_byte_table(_BFLOAT16_OF_INTEGER >> shift) for shift in (0, 8))
    sign = ir.Constant(_BYTES, [0x80] * 64)
    lanes = [64 * half + 16 * lane + i for lane in range(4) for half in range(1) for i in range(8)]
    pairs = []
    for pair in range(_PAIRS_PER_STEP):
        codes = _load(builder, address, 64 * pair, _BYTES)
        is_flag = ir.IntType(1)(0)
        magnitudes = v.call(builder, "llvm.abs.v64i8", _BYTES, codes, is_flag)
        lows = _look_up_byte(builder, low, magnitudes)
        highs = _look_up_byte(builder, high, magnitudes)
        highs = builder.or_(highs, builder.and_(codes, sign))
        halves = []
        for half in range(2):
            order = [place for i in lanes for place in (i + 8 * half, 64 + i + 8 * half)]
            mixed = builder.shuffle_vector(lows, highs, ir.Constant(_ints_of(64), order))
            halves.append(builder.bitcast(mixed, _INTS))
        pairs.append(halves)
    return pairs


def _int8_widened(builder: Any, address: Any) -> list[list[Any]]:
    pairs = []
    for pair in range(_PAIRS_PER_STEP):
        codes = _load(builder, address, 64 * pair, _BYTES)
        halves = []
        for half in range(2):
            parities = []
            for parity in range(2):
                order = [16 * (i // 4) + 8 * half + 2 * (i % 4) + parity for i in range(16)]
                some = builder.shuffle_vector(codes, codes, ir.Constant(_ints_of(16), order))
                parities.append(builder.sitofp(builder.sext(some, _INTS), _FLOATS))
            halves.append(tuple(parities))
        pairs.append(halves)
    return pairs


def _int4_pairs(builder: Any, address: Any) -> list[list[Any]]:
    """The table holds every value twice: an index has five bits, and the fifth is another nibble's."""
    values = np.arange(-8, 8, dtype=np.float32).view(np.uint32) >> 16
    table = ir.Constant(_WORDS, [int(value) for value in (*values, *values)])
    words = [_load(builder, address, 64 * half, _WORDS) for half in range(2)]
    pairs = []
    for pair in range(_PAIRS_PER_STEP):
        halves = []
        for word in words:
            index = builder.lshr(word, ir.Constant(_WORDS, [4 * pair] * 32)) if pair else word
            found = v.call(builder, "llvm.x86.avx512.permvar.hi.512", _WORDS, table, index)
            halves.append(builder.bitcast(found, _INTS))
        pairs.append(halves)
    return pairs


def _int4_widened(builder: Any, address: Any) -> list[list[Any]]:
    words = [_load(builder, address, 64 * half, _INTS) for half in range(2)]

    def value(word: Any, shift: int) -> Any:
        nibble = builder.and_(builder.lshr(word, _ints(shift)), _ints(15))
        return builder.sitofp(builder.sub(nibble, _ints(8)), _FLOATS)

    return [
        [tuple(value(word, 16 * parity + 4 * pair) for parity in range(2)) for word in words]
        for pair in range(_PAIRS_PER_STEP)
    ]


_BFLOAT16_OF_INTEGER = np.arange(128, dtype=np.float32).view(np.uint32) >> 16

_FORMATS = {
    types.uint16: _Format(2 * PANEL * STEP, 0, 0, _bfloat16_pairs, _bfloat16_widened),
    types.int8: _Format(PANEL * STEP, 0, 2048, _int8_pairs, _int8_widened),
    types.uint8: _Format(PANEL * STEP // 2, _STEPS_PER_GROUP, 2048, _int4_pairs, _int4_widened),
}


def _byte_table(values: Any) -> tuple[Any, Any]:
    """The low bytes of 128 values."""
    numbers = [int(value) & 0xFF for value in values]
    return ir.Constant(_BYTES, numbers[:64]), ir.Constant(_BYTES, numbers[64:])


def _look_up_byte(builder: Any, table: tuple[Any, Any], index: Any) -> Any:
    name = "llvm.x86.avx512.vpermi2var.qi.512"
    return v.call(builder, name, _BYTES, table[0], index, table[1])


def _load(builder: Any, address: Any, offset: int, kind: Any) -> Any:
    place = builder.gep(address, [_I64(offset)])
    return builder.load(builder.bitcast(place, kind.as_pointer()), align=1)


def _splat(builder: Any, value: Any, kind: Any) -> Any:
    empty = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(empty, value, _I32(0))
    return builder.shuffle_vector(first, empty, ir.Constant(_INTS, [0] * 16))


def _ints(value: int) -> Any:
    return ir.Constant(_INTS, [value] * 16)


def _ints_of(lanes: int) -> Any:
    return ir.VectorType(_I32, lanes)
