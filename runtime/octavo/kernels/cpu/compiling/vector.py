"""Vectors of sixteen floats inside numba kernels, and pointers made from addresses.

LLVM vectorises a loop only after it has proved, or checks at run time, that nothing aliases, and keeps no
accumulator in a register that lives in an array. Kernels that name their vectors depend on neither: what
is written is what runs, as one AVX-512 register, two of AVX2 or four of NEON.

Vectors are loaded through pointers to float32 or uint16; the latter is bfloat16, widened as it is loaded
and rounded to nearest even as it is stored. A CPU that rounds by itself (AVX512-BF16) takes numbers below
2**-126 for 0.
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba import extending
from numba.core import cgutils, types
from numba.extending import models

LANES = 16

_F32 = ir.FloatType()
_I32 = ir.IntType(32)
_I16 = ir.IntType(16)
_VECTOR = ir.VectorType(_F32, LANES)
_VECTOR_I32 = ir.VectorType(_I32, LANES)
_VECTOR_I16 = ir.VectorType(_I16, LANES)


class Vector(types.Type):
    """numba's name for `<16 x float>`."""

    def __init__(self) -> None:
        super().__init__(name="Vector16")


VECTOR = Vector()


@extending.register_model(Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _VECTOR)


def intrinsic(function: Any) -> Any:
    return extending.intrinsic(function)


def _pointer(element: Any) -> Any:
    def from_address(typing_context: Any, address: Any) -> Any:
        del typing_context, address
        signature = types.CPointer(element)(types.int64)  # type: ignore[attr-defined]

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return signature, generate

    return intrinsic(from_address)


float32_at = _pointer(types.float32)
bfloat16_at = _pointer(types.uint16)
int64_at = _pointer(types.int64)
int32_at = _pointer(types.int32)
int16_at = _pointer(types.int16)
int8_at = _pointer(types.int8)
uint8_at = _pointer(types.uint8)


def _constant(value: float) -> Any:
    return ir.Constant(_VECTOR, [value] * LANES)


def _constant_i32(value: int) -> Any:
    return ir.Constant(_VECTOR_I32, [value] * LANES)


def _vector_address(builder: Any, pointer: Any, offset: Any, element: Any) -> Any:
    place = builder.gep(pointer, [offset])
    return builder.bitcast(place, element.as_pointer())


@intrinsic
def load(typing_context: Any, pointer: Any, offset: Any) -> Any:
    """`pointer[offset : offset + 16]` as floats; unaligned."""
    del typing_context, offset
    is_wide = pointer.dtype == types.float32

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        if is_wide:
            address = _vector_address(builder, arguments[0], arguments[1], _VECTOR)
            return builder.load(address, align=4)
        address = _vector_address(builder, arguments[0], arguments[1], _VECTOR_I16)
        narrow = builder.load(address, align=2)
        shifted = builder.shl(builder.zext(narrow, _VECTOR_I32), _constant_i32(16))
        return builder.bitcast(shifted, _VECTOR)

    return VECTOR(pointer, types.int64), generate


@intrinsic
def store(typing_context: Any, pointer: Any, offset: Any, value: Any) -> Any:
    """`pointer[offset : offset + 16] = value`; unaligned."""
    del typing_context, offset, value
    is_wide = pointer.dtype == types.float32

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        address, offset, value = arguments
        if is_wide:
            builder.store(value, _vector_address(builder, address, offset, _VECTOR), align=4)
        else:
            target = _vector_address(builder, address, offset, _VECTOR_I16)
            builder.store(_round_to_bfloat16(builder, value), target, align=2)
        return context.get_dummy_value()

    return types.void(pointer, types.int64, VECTOR), generate


def _round_to_bfloat16(builder: Any, value: Any) -> Any:
    if "+avx512bf16" in (numba.config.CPU_FEATURES or "").split(","):
        return call(builder, "llvm.x86.avx512bf16.cvtneps2bf16.512", _VECTOR_I16, value)
    bits = builder.bitcast(value, _VECTOR_I32)
    is_odd = builder.and_(builder.lshr(bits, _constant_i32(16)), _constant_i32(1))
    rounded = builder.add(bits, builder.add(is_odd, _constant_i32(0x7FFF)))
    is_nan = builder.fcmp_unordered("uno", value, value)
    rounded = builder.select(is_nan, _constant_i32(0x7FC00000), rounded)
    return builder.trunc(builder.lshr(rounded, _constant_i32(16)), _VECTOR_I16)


@intrinsic
def splat(typing_context: Any, value: Any) -> Any:
    """The scalar in all lanes."""
    del typing_context, value

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        empty = ir.Constant(_VECTOR, ir.Undefined)
        first = builder.insert_element(empty, arguments[0], ir.Constant(_I32, 0))
        return builder.shuffle_vector(first, empty, ir.Constant(_VECTOR_I32, [0] * LANES))

    return VECTOR(types.float32), generate


@intrinsic
def scalar(typing_context: Any, pointer: Any, offset: Any) -> Any:
    """`pointer[offset]` as one float."""
    del typing_context, offset
    is_wide = pointer.dtype == types.float32

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        value = builder.load(builder.gep(arguments[0], [arguments[1]]))
        if is_wide:
            return value
        shifted = builder.shl(builder.zext(value, _I32), ir.Constant(_I32, 16))
        return builder.bitcast(shifted, _F32)

    return types.float32(pointer, types.int64), generate


@intrinsic
def float32_of(typing_context: Any, bits: Any) -> Any:
    """The float32 whose bits are the low half of an int64."""
    del typing_context, bits

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        return builder.bitcast(builder.trunc(arguments[0], _I32), _F32)

    return types.float32(types.int64), generate


@intrinsic
def bits_of(typing_context: Any, value: Any) -> Any:
    """The bits of a float32, as an int64."""
    del typing_context, value

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        return builder.zext(builder.bitcast(arguments[0], _I32), ir.IntType(64))

    return types.int64(types.float32), generate


@intrinsic
def count_up(typing_context: Any, pointer: Any, offset: Any) -> Any:
    """Adds one to `pointer[offset]`, an int64 that all threads share; what it was before."""
    del typing_context, offset

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        place = builder.gep(arguments[0], [arguments[1]])
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(pointer, types.int64), generate


@intrinsic
def keep(typing_context: Any, array: Any) -> Any:
    """Holds an array until here. numba frees an array behind the last mention of its name, whatever still
    points into it: who takes a pointer from `array.ctypes` says here how long that is used."""
    del typing_context

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del builder, signature, arguments
        return context.get_dummy_value()

    return types.void(array), generate


def _operation(build: Any, arity: int) -> Any:
    """An intrinsic on `arity` vectors, whose body `build(builder, *vectors)` emits."""

    def one(typing_context: Any, a: Any) -> Any:
        del typing_context, a
        return VECTOR(VECTOR), generate

    def two(typing_context: Any, a: Any, b: Any) -> Any:
        del typing_context, a, b
        return VECTOR(VECTOR, VECTOR), generate

    def three(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
        del typing_context, a, b, c
        return VECTOR(VECTOR, VECTOR, VECTOR), generate

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        return build(builder, *arguments)

    return intrinsic((one, two, three)[arity - 1])


def call(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    """Emits a call of an LLVM intrinsic that returns `result`."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, arguments)


def _fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return call(builder, "llvm.fmuladd.v16f32", _VECTOR, a, b, c)


def _larger(builder: Any, a: Any, b: Any) -> Any:
    """The larger one, and `b` where `a` is NaN: one instruction, where `llvm.maxnum` takes three."""
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _smaller(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


def _exp(builder: Any, x: Any) -> Any:
    """2^n times a Taylor polynomial of degree 7 on [-ln 2 / 2, ln 2 / 2], to 2 ulp.

    What lies outside the range of float32 becomes the range's end.
    """
    x = _larger(builder, x, _constant(-87.3))
    x = _smaller(builder, x, _constant(88.3))
    turns = builder.fmul(x, _constant(1.4426950408889634))
    whole = call(builder, "llvm.nearbyint.v16f32", _VECTOR, turns)
    # ln 2 in two parts, so that what is left of x keeps its last bits.
    rest = _fused(builder, whole, _constant(-0.693359375), x)
    rest = _fused(builder, whole, _constant(2.12194440e-4), rest)
    result = _constant(1 / 5040)
    for coefficient in (1 / 720, 1 / 120, 1 / 24, 1 / 6, 0.5, 1.0, 1.0):
        result = _fused(builder, result, rest, _constant(coefficient))
    exponent = builder.fptosi(whole, _VECTOR_I32)
    power = builder.shl(builder.add(exponent, _constant_i32(127)), _constant_i32(23))
    return builder.fmul(result, builder.bitcast(power, _VECTOR))


# Polynomials for 2^x on [-1/2, 1/2], lowest first, fitted by least relative error (9e-8 and 3e-6) with 2^0
# exactly 1: what a maximum that stays does to earlier sums is nothing.
_FINE = (1.0, 0.693146978, 0.240222422, 0.0555073374, 0.00967150517, 0.00132647016)
_COARSE = (1.0, 0.693124203, 0.240240987, 0.0559063418, 0.00958281906)
_ROUNDING = 1.5 * 2.0**23
"""Added to a float of less than 22 bits it leaves the nearest integer, in the low bits too."""


def _exp2_by(coefficients: tuple[float, ...]) -> Any:
    def exp2(builder: Any, x: Any) -> Any:
        """Of a number that is not positive; 2^-125 stands for what is less."""
        x = _larger(builder, x, _constant(-125.0))
        shifted = builder.fadd(x, _constant(_ROUNDING))
        rest = builder.fsub(x, builder.fsub(shifted, _constant(_ROUNDING)))
        result = _constant(coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            result = _fused(builder, result, rest, _constant(coefficient))
        exponent = builder.shl(builder.bitcast(shifted, _VECTOR_I32), _constant_i32(23))
        bits = builder.add(builder.bitcast(result, _VECTOR_I32), exponent)
        return builder.bitcast(bits, _VECTOR)

    return exp2


add = _operation(lambda builder, a, b: builder.fadd(a, b), 2)
subtract = _operation(lambda builder, a, b: builder.fsub(a, b), 2)
multiply = _operation(lambda builder, a, b: builder.fmul(a, b), 2)
divide = _operation(lambda builder, a, b: builder.fdiv(a, b), 2)
larger = _operation(_larger, 2)
multiply_add = _operation(_fused, 3)
exp = _operation(_exp, 1)
exp2 = _operation(_exp2_by(_FINE), 1)
exp2_coarse = _operation(_exp2_by(_COARSE), 1)


def _reduction(name: str, start: float | None) -> Any:
    def reduce(typing_context: Any, a: Any) -> Any:
        del typing_context, a

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            del context, signature
            if start is None:
                return call(builder, name, _F32, arguments[0])
            kind = ir.FunctionType(_F32, [_F32, _VECTOR])
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            # Without `reassoc` the sixteen lanes would be added one after another.
            return builder.call(
                function, [ir.Constant(_F32, start), arguments[0]], fastmath=("reassoc",)
            )

        return types.float32(VECTOR), generate

    return intrinsic(reduce)


sum_lanes = _reduction("llvm.vector.reduce.fadd.v16f32", -0.0)
max_lanes = _reduction("llvm.vector.reduce.fmax.v16f32", None)


def _merge(builder: Any, a: Any, b: Any, run: int) -> Any:
    """Adds neighbouring runs of `run` lanes of `a` and of `b`, and interleaves the sums by runs."""
    low = []
    for start in range(0, LANES, 2 * run):
        low += [*range(start, start + run), *range(LANES + start, LANES + start + run)]
    high = [lane + run for lane in low]
    first = builder.shuffle_vector(a, b, ir.Constant(_VECTOR_I32, low))
    second = builder.shuffle_vector(a, b, ir.Constant(_VECTOR_I32, high))
    return builder.fadd(first, second)


@intrinsic
def sum_lanes_of_eight(
    typing_context: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any
) -> Any:
    """The sums of eight vectors, in the first eight lanes: three shuffles each instead of eight."""
    del typing_context, a, b, c, d, e, f, g, h

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        vectors = list(arguments)
        for run in (1, 2, 4):
            pairs = zip(vectors[::2], vectors[1::2], strict=True)
            vectors = [_merge(builder, x, y, run) for x, y in pairs]
        return _merge(builder, vectors[0], vectors[0], 8)

    return VECTOR(*[VECTOR] * 8), generate
