"""Planes of packed weights. The core of the products with them: a block's words become the numbers that
matrix units multiply.

Integers, float8 and float4 are exact in every dtype of activations, so scales wait for the sums: they are
applied to each group's, in float32, which rounds nothing and is less work than scaling each weight. A group
is as many planes as it shares with a block, or all blocks.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

from octavo.kernels.packed_weight import OFFSETS, PLANE, PackedWeight, codes_per_word
from octavo.kernels.reference.weight_only import Code

# Of floats whose bits are read as those of a float16: the differences of the exponents' biases.
_UNITS = {Code.FLOAT8: 2.0**8, Code.MXFP4: 2.0**14}


def weight_constants(weight: PackedWeight) -> dict[str, int | float | bool]:
    """The compile-time arguments that kernels pass on to `products`."""
    return constants_of(weight.code, weight.depth, weight.group)


def constants_of(code: Code, depth: int, group: int) -> dict[str, int | float | bool]:
    planes = codes_per_word(code)
    is_one_group = group == depth and code is not Code.MXFP4
    together = planes if is_one_group else math.gcd(group, planes * PLANE) // PLANE
    return {
        "DEPTH": depth,
        "GROUP": group,
        "PLANES": planes,
        "TOGETHER": together,
        "IS_ONE_GROUP": is_one_group,
        "IS_FLOAT": code in _UNITS,
        "OFFSET": OFFSETS[code],
        "UNIT": _UNITS.get(code, 1.0),
    }


@triton.jit
def blocks_of_part(part, BLOCKS: tl.constexpr, PARTS: tl.constexpr):
    """The first block of inputs of one of PARTS programs that share a product, and the first behind."""
    STEPS: tl.constexpr = (BLOCKS + PARTS - 1) // PARTS
    begin = part * STEPS
    end = begin + STEPS
    if BLOCKS % PARTS:
        end = tl.minimum(end, BLOCKS)
    return begin, end


@triton.jit
def products(
    rows,
    row_dtype: tl.constexpr,
    begin,
    end,
    words,
    scales,
    zeros,
    column,
    inside,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
    GROUP: tl.constexpr,
    PLANES: tl.constexpr,
    TOGETHER: tl.constexpr,
    IS_ONE_GROUP: tl.constexpr,
    IS_FLOAT: tl.constexpr,
    OFFSET: tl.constexpr,
    UNIT: tl.constexpr,
):
    """Products `[rows, columns]` float32 of the blocks of inputs `[begin, end)`.

    Args:
        rows: Pointers to the first input of each row, `[rows, 1]`.
        words: Pointer to the weight's first word; `scales` and `zeros` likewise, the latter may be None.
        column: `[columns]` of the weight, of which those `inside` are read.
    """
    total = tl.zeros([rows.shape[0], column.shape[0]], tl.float32)
    for block in range(begin, end):
        total = _add_block(
            total,
            rows,
            row_dtype,
            block,
            words,
            scales,
            zeros,
            column,
            inside,
            WIDTH,
            DEPTH,
            GROUP,
            PLANES,
            TOGETHER,
            IS_ONE_GROUP,
            IS_FLOAT,
            OFFSET,
        )
    if IS_ONE_GROUP:
        total = total * tl.load(scales + column, inside, other=0.0).to(tl.float32)[None, :]
    return total * UNIT


@triton.jit
def _add_block(
    total,
    rows,
    row_dtype: tl.constexpr,
    block,
    words,
    scales,
    zeros,
    column,
    inside,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
    GROUP: tl.constexpr,
    PLANES: tl.constexpr,
    TOGETHER: tl.constexpr,
    IS_ONE_GROUP: tl.constexpr,
    IS_FLOAT: tl.constexpr,
    OFFSET: tl.constexpr,
):
    """`total` and the products of one block of inputs; where all inputs share a scale, without it."""
    ROW: tl.constexpr = 16
    place = tl.arange(0, ROW)
    packed = tl.load(
        words + (block * ROW + place).to(tl.int64)[:, None] * WIDTH + column[None, :],
        inside[None, :],
        other=0,
        eviction_policy="evict_first",
    )
    IS_MX: tl.constexpr = scales.dtype.element_ty == tl.int32
    if IS_MX:
        powers = tl.load(scales + block * WIDTH + column, inside, other=0)
    first = block * (ROW * PLANES)
    for part in tl.static_range(PLANES // TOGETHER):
        group = 0
        if not IS_ONE_GROUP:
            # Behind the last input there is no group; what is multiplied with its scale is zero.
            group = tl.minimum((first + part * TOGETHER * ROW) // GROUP, DEPTH // GROUP - 1)
        # 2²³ and an integer below are the bits of both in one float32.
        shift = tl.full(column.shape, 8388608.0 + OFFSET, tl.float32)
        if zeros is not None:
            zero = tl.load(zeros + group * WIDTH + column, inside, other=0)
            shift += zero.to(tl.float32)
        sums = total if IS_ONE_GROUP else tl.zeros(total.shape, tl.float32)
        for index in tl.static_range(TOGETHER):
            inner = first + (part * TOGETHER + index) * ROW + place
            if DEPTH % (ROW * PLANES) == 0:
                values = tl.load(rows + inner[None, :])
            else:
                values = tl.load(rows + inner[None, :], (inner < DEPTH)[None, :], other=0.0)
            codes = _plane(packed, shift, part * TOGETHER + index, PLANES, IS_FLOAT)
            sums = tl.dot(values, codes.to(row_dtype), sums, input_precision="ieee")
        if IS_ONE_GROUP:
            total = sums
        else:
            if IS_MX:
                scale = _power_of_two(powers >> (8 * part))
            else:
                scale = tl.load(scales + group * WIDTH + column, inside, other=0.0).to(tl.float32)
            total += sums * scale[None, :]
    return total


@triton.jit
def _plane(packed, shift, INDEX: tl.constexpr, PLANES: tl.constexpr, IS_FLOAT: tl.constexpr):
    """Numbers `[16, columns]` float32 of one plane of words."""
    BITS: tl.constexpr = 32 // PLANES
    code = packed >> (BITS * INDEX)
    if IS_FLOAT:
        # An e4m3's or e2m1's exponent and mantissa where a float16 has its own, but for a factor.
        SIGN: tl.constexpr = 1 << (BITS - 1)
        MANTISSA: tl.constexpr = 7 if BITS == 8 else 9  # its shift
        half = ((code & SIGN) << (16 - BITS)) | ((code & (SIGN - 1)) << MANTISSA)
        numbers = half.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    else:
        number = (code & ((1 << BITS) - 1)) | 0x4B000000
        numbers = number.to(tl.float32, bitcast=True) - shift[None, :]
    return numbers


@triton.jit
def _power_of_two(exponent):
    """float32, of E8M0 in the lowest byte."""
    bits = (exponent & 0xFF) << 23
    # Of the least power, which is no normal float32, the exponent says nothing.
    return tl.where(bits == 0, 1 << 22, bits).to(tl.float32, bitcast=True)
