"""Unpacking of panels. From the bytes of one step (8 inputs by 32 output features) to vectors that are
multiplied, in the two arithmetics that CPUs have.

On CPUs with AVX512-BF16 and -VBMI a pair of inputs is one instruction for sixteen output features, and small
numbers become bfloat16 by looking them up, which is exact. Elsewhere both sides are widened to float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba.core import types

from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.products.weight_panels import PANEL, STEP
from octavo.kernels.fp4 import E2M1_VALUES

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
FLOATS = ir.VectorType(ir.FloatType(), 16)
_INTS = ir.VectorType(_I32, 16)
_SHORTS = ir.VectorType(_I16, 16)
_HALFS = ir.VectorType(ir.HalfType(), 16)
_WORDS = ir.VectorType(_I16, 32)
_BYTES = ir.VectorType(_I8, 64)
_PAIRS_PER_STEP = STEP // 2


def has_pair_products() -> bool:
    """Whether kernels are compiled for a CPU that multiplies pairs of bfloat16."""
    features = (numba.config.CPU_FEATURES or "").split(",")
    return {"+avx512bf16", "+avx512vbmi"} <= set(features)


class Arithmetic:
    """`are_pairs`: vectors are sixteen pairs of bfloat16; else two vectors of floats, one of each parity."""

    def __init__(self, are_pairs: bool) -> None:
        self.are_pairs = are_pairs

    @classmethod
    def of(cls, x: Any) -> Arithmetic:
        """The fastest that takes inputs which the pointer `x` points to."""
        return cls(has_pair_products() and x.dtype == types.uint16)

    def dot(self, builder: Any, total: Any, weight: Any, x: Any) -> Any:
        """`total` plus the products of both inputs."""
        if self.are_pairs:
            name = "llvm.x86.avx512bf16.dpbf16ps.512"
            return v.call(builder, name, FLOATS, total, weight, x)
        for a, b in zip(weight, x, strict=True):
            total = multiply_add(builder, a, b, total)
        return total

    def broadcast(self, builder: Any, x: Any, at: Any, is_wide: bool) -> Any:
        """Inputs `x[at]` and `x[at + 1]` in all lanes."""
        place = builder.gep(x, [at])
        if self.are_pairs:
            pair = builder.load(builder.bitcast(place, _I32.as_pointer()), align=2)
            return splat(builder, pair, _INTS)
        found = []
        for parity in range(2):
            value = builder.load(builder.gep(place, [_I64(parity)]))
            if not is_wide:
                value = builder.shl(builder.zext(value, _I32), _I32(16))
                value = builder.bitcast(value, ir.FloatType())
            found.append(splat(builder, value, FLOATS))
        return tuple(found)


Unpack = Callable[[Any, Any], list[list[Any]]]
"""From a builder and the address of a step: of each pair, the two halves of its panel."""


@dataclass(frozen=True, slots=True)
class Unpacking:
    """How a step's bytes become vectors.

    Args:
        ahead: Bytes from what is used to what is asked for, 0: the CPU sees by itself what comes next. It
            does so too late while it unpacks small numbers: asking took a tenth off their products.
        pairs: None: such weights are multiplied in float32 alone.
        is_costly: It takes longer than the products of four rows: on few registers, too, it is done once.
    """

    step_bytes: int
    ahead: int
    pairs: Unpack | None
    widened: Unpack
    is_costly: bool = False

    def __call__(self, builder: Any, address: Any, arithmetic: Arithmetic) -> list[list[Any]]:
        unpack = self.pairs if arithmetic.are_pairs else self.widened
        if unpack is None:
            raise TypeError("These weights are multiplied with inputs in float32 alone.")
        return unpack(builder, address)


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return v.call(builder, "llvm.fmuladd.v16f32", FLOATS, a, b, c)


NEAREST_CACHE, SECOND_CACHE = 3, 2
"""LLVM's names of localities."""


def ask_for(builder: Any, address: Any, count: int, into: int = NEAREST_CACHE) -> None:
    """Has `count` bytes fetched into a cache; they may lie beyond the weight."""
    for_reading, locality, of_data = _I32(0), _I32(into), _I32(1)
    for line in range(0, count, 64):
        place = builder.gep(address, [_I64(line)])
        v.call(
            builder,
            "llvm.prefetch.p0",
            ir.VoidType(),
            place,
            for_reading,
            locality,
            of_data,
        )


def load(builder: Any, address: Any, offset: int, kind: Any) -> Any:
    """Unaligned, `offset` bytes behind `address`."""
    place = builder.gep(address, [_I64(offset)])
    return builder.load(builder.bitcast(place, kind.as_pointer()), align=1)


def load_bfloat16(builder: Any, address: Any, offset: int) -> Any:
    """Sixteen of them, as floats."""
    narrow = load(builder, address, offset, _SHORTS)
    bits = builder.shl(builder.zext(narrow, _INTS), _ints(16))
    return builder.bitcast(bits, FLOATS)


def load_powers_of_two(builder: Any, address: Any, offset: int) -> Any:
    """Sixteen of the bytes of their exponents (E8M0), as floats."""
    exponents = load(builder, address, offset, ir.VectorType(_I8, 16))
    bits = builder.shl(builder.zext(exponents, _INTS), _ints(23))
    # The least one, and no other, is so small that its exponent says nothing.
    is_least = builder.icmp_signed("==", bits, _ints(0))
    return builder.bitcast(builder.select(is_least, _ints(1 << 22), bits), FLOATS)


def splat(builder: Any, value: Any, kind: Any) -> Any:
    empty = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(empty, value, _I32(0))
    return builder.shuffle_vector(first, empty, ir.Constant(_INTS, [0] * 16))


def _bfloat16_pairs(builder: Any, address: Any) -> list[list[Any]]:
    return [
        [load(builder, address, 128 * pair + 64 * half, _INTS) for half in range(2)]
        for pair in range(_PAIRS_PER_STEP)
    ]


def _bfloat16_widened(builder: Any, address: Any) -> list[list[Any]]:
    def widen(bits: Any) -> tuple[Any, Any]:
        low = builder.shl(bits, _ints(16))
        high = builder.and_(bits, _ints(0xFFFF0000))
        return builder.bitcast(low, FLOATS), builder.bitcast(high, FLOATS)

    return [[widen(half) for half in pair] for pair in _bfloat16_pairs(builder, address)]


def _float16_widened(builder: Any, address: Any) -> list[list[Any]]:
    def widen(offset: int) -> Any:
        narrow = load(builder, address, offset, _HALFS)
        return builder.fpext(narrow, FLOATS)

    return [
        [
            tuple(widen(128 * pair + 64 * half + 32 * parity) for parity in range(2))
            for half in range(2)
        ]
        for pair in range(_PAIRS_PER_STEP)
    ]


def _int8_pairs(builder: Any, address: Any, *, has_least: bool = False) -> list[list[Any]]:
    """Magnitudes are looked up byte by byte, signs joined to the high one, and the bytes interleaved.

    Args:
        has_least: -128 may be among them, whose magnitude is in no table of 128.
    """
    pairs = []
    for pair in range(_PAIRS_PER_STEP):
        codes = load(builder, address, 64 * pair, _BYTES)
        is_flag = ir.IntType(1)(0)
        magnitudes = v.call(builder, "llvm.abs.v64i8", _BYTES, codes, is_flag)
        lows, highs = _look_up(builder, _BFLOAT16_OF_INTEGER, magnitudes, codes)
        if has_least:
            is_least = builder.icmp_signed("==", codes, _bytes(0x80))
            highs = builder.select(is_least, _bytes(_LEAST_HIGH), highs)
        pairs.append(_interleaved(builder, lows, highs))
    return pairs


def _whole_int8_pairs(builder: Any, address: Any) -> list[list[Any]]:
    return _int8_pairs(builder, address, has_least=True)


def _float8_pairs(builder: Any, address: Any) -> list[list[Any]]:
    """As integers, of another table: the instruction looks at an index's low seven bits alone."""
    pairs = []
    for pair in range(_PAIRS_PER_STEP):
        codes = load(builder, address, 64 * pair, _BYTES)
        lows, highs = _look_up(builder, _BFLOAT16_OF_FLOAT8, codes, codes)
        pairs.append(_interleaved(builder, lows, highs))
    return pairs


def _look_up(builder: Any, values: Any, index: Any, codes: Any) -> tuple[Any, Any]:
    """Low and high bytes of `values[index]`, with the signs of `codes`."""
    low, high = (_byte_table(values >> shift) for shift in (0, 8))
    lows = _look_up_byte(builder, low, index)
    highs = _look_up_byte(builder, high, index)
    return lows, builder.or_(highs, builder.and_(codes, _bytes(0x80)))


def _interleaved(builder: Any, lows: Any, highs: Any) -> list[Any]:
    """The halves of a pair, of the low and the high bytes of its bfloat16s."""
    lanes = [64 * half + 16 * lane + i for lane in range(4) for half in range(1) for i in range(8)]
    halves = []
    for half in range(2):
        order = [place for i in lanes for place in (i + 8 * half, 64 + i + 8 * half)]
        mixed = builder.shuffle_vector(lows, highs, ir.Constant(_ints_of(64), order))
        halves.append(builder.bitcast(mixed, _INTS))
    return halves


def _int8_widened(builder: Any, address: Any) -> list[list[Any]]:
    return _bytes_widened(builder, address, lambda some: builder.sitofp(some, FLOATS))


def _float8_widened(builder: Any, address: Any) -> list[list[Any]]:
    return _bytes_widened(builder, address, lambda some: _float_of_float8(builder, some))


def _float_of_float8(builder: Any, codes: Any) -> Any:
    """Of sign-extended bytes. Below the eighth the number is so many times 2 ** -9 (no CPU is quick with
    what that would be as a float of these bits)."""
    magnitudes = builder.and_(codes, _ints(0x7F))
    bits = builder.add(builder.shl(magnitudes, _ints(20)), _ints(120 << 23))
    smallest = ir.Constant(FLOATS, [2.0**-9] * 16)
    small = builder.fmul(builder.sitofp(magnitudes, FLOATS), smallest)
    is_small = builder.icmp_signed("<", magnitudes, _ints(8))
    bits = builder.select(is_small, builder.bitcast(small, _INTS), bits)
    return builder.bitcast(builder.or_(bits, builder.and_(codes, _ints(0x80000000))), FLOATS)


def _bytes_widened(builder: Any, address: Any, to_floats: Callable[[Any], Any]) -> list[list[Any]]:
    pairs = []
    for pair in range(_PAIRS_PER_STEP):
        codes = load(builder, address, 64 * pair, _BYTES)
        halves = []
        for half in range(2):
            parities = []
            for parity in range(2):
                order = [16 * (i // 4) + 8 * half + 2 * (i % 4) + parity for i in range(16)]
                some = builder.shuffle_vector(codes, codes, ir.Constant(_ints_of(16), order))
                parities.append(to_floats(builder.sext(some, _INTS)))
            halves.append(tuple(parities))
        pairs.append(halves)
    return pairs


def _int4_pairs(builder: Any, address: Any) -> list[list[Any]]:
    return _nibble_pairs(builder, address, _BFLOAT16_OF_INT4)


def _float4_pairs(builder: Any, address: Any) -> list[list[Any]]:
    return _nibble_pairs(builder, address, _BFLOAT16_OF_FLOAT4)


def _nibble_pairs(builder: Any, address: Any, values: Any) -> list[list[Any]]:
    """The table holds every value twice: an index has five bits, and the fifth is another nibble's."""
    table = ir.Constant(_WORDS, [int(value) for value in (*values, *values)])
    words = [load(builder, address, 64 * half, _WORDS) for half in range(2)]
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
    def to_floats(nibbles: Any) -> Any:
        return builder.sitofp(builder.sub(nibbles, _ints(8)), FLOATS)

    return _nibbles_widened(builder, address, to_floats)


def _float4_widened(builder: Any, address: Any) -> list[list[Any]]:
    return _nibbles_widened(builder, address, lambda nibbles: _float_of_float4(builder, nibbles))


def _float_of_float4(builder: Any, codes: Any) -> Any:
    """Below the second the number is so many halves."""
    magnitudes = builder.and_(codes, _ints(7))
    bits = builder.add(builder.shl(magnitudes, _ints(22)), _ints(126 << 23))
    small = builder.fmul(builder.sitofp(magnitudes, FLOATS), ir.Constant(FLOATS, [0.5] * 16))
    is_small = builder.icmp_signed("<", magnitudes, _ints(2))
    bits = builder.select(is_small, builder.bitcast(small, _INTS), bits)
    sign = builder.shl(builder.and_(codes, _ints(8)), _ints(28))
    return builder.bitcast(builder.or_(bits, sign), FLOATS)


def _nibbles_widened(
    builder: Any, address: Any, to_floats: Callable[[Any], Any]
) -> list[list[Any]]:
    words = [load(builder, address, 64 * half, _INTS) for half in range(2)]

    def value(word: Any, shift: int) -> Any:
        return to_floats(builder.and_(builder.lshr(word, _ints(shift)), _ints(15)))

    return [
        [tuple(value(word, 16 * parity + 4 * pair) for parity in range(2)) for word in words]
        for pair in range(_PAIRS_PER_STEP)
    ]


_BFLOAT16_OF_INTEGER = np.arange(128, dtype=np.float32).view(np.uint32) >> 16
_BFLOAT16_OF_INT4 = np.arange(-8, 8, dtype=np.float32).view(np.uint32) >> 16
_BFLOAT16_OF_FLOAT4 = np.array(E2M1_VALUES, dtype=np.float32).view(np.uint32) >> 16
_LEAST_HIGH = int(np.array(-128, dtype=np.float32).view(np.uint32)) >> 24
_BFLOAT16_OF_FLOAT8 = (
    torch.arange(128, dtype=torch.uint8).view(torch.float8_e4m3fn).float().numpy().view(np.uint32)
    >> 16
)

BFLOAT16 = Unpacking(2 * PANEL * STEP, 0, _bfloat16_pairs, _bfloat16_widened)
FLOAT16 = Unpacking(2 * PANEL * STEP, 0, None, _float16_widened)
INT8 = Unpacking(PANEL * STEP, 2048, _int8_pairs, _int8_widened)
INT4 = Unpacking(PANEL * STEP // 2, 2048, _int4_pairs, _int4_widened)
# -128 too, which our own rounding never gives.
WHOLE_INT8 = Unpacking(PANEL * STEP, 2048, _whole_int8_pairs, _int8_widened)
FLOAT8 = Unpacking(PANEL * STEP, 2048, _float8_pairs, _float8_widened, is_costly=True)
FLOAT4 = Unpacking(PANEL * STEP // 2, 2048, _float4_pairs, _float4_widened, is_costly=True)


def _byte_table(values: Any) -> tuple[Any, Any]:
    """The low bytes of 128 values."""
    numbers = [int(value) & 0xFF for value in values]
    return ir.Constant(_BYTES, numbers[:64]), ir.Constant(_BYTES, numbers[64:])


def _look_up_byte(builder: Any, table: tuple[Any, Any], index: Any) -> Any:
    name = "llvm.x86.avx512.vpermi2var.qi.512"
    return v.call(builder, name, _BYTES, table[0], index, table[1])


def _bytes(value: int) -> Any:
    return ir.Constant(_BYTES, [value] * 64)


def _ints(value: int) -> Any:
    return ir.Constant(_INTS, [value] * 16)


def _ints_of(lanes: int) -> Any:
    return ir.VectorType(_I32, lanes)
