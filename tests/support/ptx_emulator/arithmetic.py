"""Arithmetic: what instructions of one thread compute (PTX ISA 9.7.1 to 9.7.5 and 9.7.8), in numpy.

Where the ISA allows an error (`ex2.approx`, `div.full`) the exact result, rounded, stands for all it allows.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

import numpy as np

from .conversions import converted, dtype_of, from_float, is_float, lanes_of, to_float
from .machine import Machine, Step
from .program import Instruction

Function = Callable[..., np.ndarray]


def elementwise(instruction: Instruction) -> Step | None:
    """The step of an instruction that computes each thread's result from its own operands, or None."""
    opcode = instruction.opcode
    if opcode == "cvt":
        return _conversion(instruction)
    if opcode == "mov":
        return _move(instruction)
    if opcode == "setp":
        return _comparison(instruction)
    if opcode == "selp":
        return _selection(instruction)
    if opcode in ("mul", "mad") and "wide" in instruction.modifiers:
        return _wide_product(instruction)
    if is_float(instruction.type):
        function = _FLOAT.get(opcode)
        return None if function is None else _float_step(instruction, function)
    function = _special_integer(instruction) or _INTEGER.get(opcode)
    if function is None:
        return None
    dtype = dtype_of(instruction.type)
    target, *sources = instruction.operands
    # Amounts of shifts and places of fields are always of 32 bits.
    amounts = {"shl": 1, "shr": 1, "bfe": 2}.get(opcode, 0)
    kinds = [dtype] * (len(sources) - amounts) + [np.dtype("u4")] * amounts

    def run(machine: Machine) -> None:
        values = function(*map(machine.read, sources, kinds))
        machine.write(target, values if values.dtype == dtype else values.astype(dtype))

    return run


def _move(instruction: Instruction) -> Step:
    target, source = instruction.operands
    dtype = dtype_of(instruction.type)

    def run(machine: Machine) -> None:
        machine.write(target, machine.read(source, dtype))

    return run


def _float_step(instruction: Instruction, function: Function) -> Step:
    kind = instruction.type
    flushes = "ftz" in instruction.modifiers
    target, *sources = instruction.operands
    if set(instruction.modifiers[:-1]) - {"rn", "ftz", "approx", "full"}:
        raise NotImplementedError(instruction.text)

    def run(machine: Machine) -> None:
        values = [to_float(machine.read(source, dtype_of(kind)), kind) for source in sources]
        if flushes:
            values = [_flushed(value) for value in values]
        result = function(*values)
        if flushes:
            result = _flushed(result)
        machine.write(target, from_float(result, kind))

    return run


def _flushed(values: np.ndarray) -> np.ndarray:
    tiny = np.abs(values) < np.finfo(np.float32).tiny
    return np.where(tiny, np.copysign(np.float32(0), values), values) if tiny.any() else values


def _fused(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Rounded to double once before its own rounding, which no test can tell from a fused one."""
    wide = np.longdouble if a.dtype == np.float64 else np.float64
    return (a.astype(wide) * b + c).astype(a.dtype)


_FLOAT: dict[str, Function] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "fma": _fused,
    "div": operator.truediv,
    "min": np.fmin,
    "max": np.fmax,
    "neg": operator.neg,
    "abs": np.abs,
    "rsqrt": lambda a: (1 / np.sqrt(a)).astype(a.dtype),
    "ex2": np.exp2,
}


def _shift_left(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    bits = 8 * a.dtype.itemsize
    return np.where(b < bits, a << np.minimum(b, bits - 1).astype(a.dtype), a.dtype.type(0))


def _quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Towards zero."""
    if a.dtype.kind == "u":
        return a // b
    return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)


def _bits_of_prmt(a: np.ndarray, b: np.ndarray, selector: np.ndarray) -> np.ndarray:
    both = b.astype(np.uint64) << np.uint64(32) | a
    result = np.zeros(np.broadcast_shapes(both.shape, selector.shape), np.uint32)
    for index in range(4):
        choice = selector >> np.uint32(4 * index) & np.uint32(15)
        byte = (both >> (choice & 7).astype(np.uint64) * np.uint64(8)).astype(
            np.uint32
        ) & np.uint32(255)
        byte = np.where(choice & 8, np.where(byte & 128, 255, 0), byte).astype(np.uint32)
        result |= byte << np.uint32(8 * index)
    return result


def _count_ones(a: np.ndarray) -> np.ndarray:
    return np.bitwise_count(a).astype(np.uint32)


_INTEGER: dict[str, Function] = {
    "add": operator.add,
    "sub": operator.sub,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "not": operator.invert,
    "neg": operator.neg,
    "abs": np.abs,
    "min": np.minimum,
    "max": np.maximum,
    "div": _quotient,
    "rem": lambda a, b: (a - _quotient(a, b) * b).astype(a.dtype),
    "prmt": _bits_of_prmt,
}


def _special_integer(instruction: Instruction) -> Function | None:
    """Of instructions whose modifiers choose the function, or whose operands are not all of one type."""
    match instruction.opcode:
        case "mul":
            return _high_product if "hi" in instruction.modifiers else operator.mul
        case "mad":
            return lambda a, b, c: a * b + c
        case "shl":
            return _shift_left
        case "shr":
            return _shift_right
        case "bfe":
            return _extracted
        case "popc":
            return _count_ones
    return None


def _high_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.itemsize == 8:
        raise NotImplementedError("mul.hi of 64 bits")
    wide = np.dtype(f"{a.dtype.kind}{2 * a.dtype.itemsize}")
    return (a.astype(wide) * b.astype(wide) >> wide.type(8 * a.dtype.itemsize)).astype(a.dtype)


def _shift_right(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    bits = 8 * a.dtype.itemsize
    amount = np.minimum(b.view(f"u{b.dtype.itemsize}"), bits - 1).astype(a.dtype)
    shifted = a >> amount
    if a.dtype.kind == "i":
        return shifted
    return np.where(b < bits, shifted, a.dtype.type(0))


def _extracted(a: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """`bfe`; of a signed type the field's highest bit is its sign."""
    bits = 8 * a.dtype.itemsize
    begin, count = int(start[0]) & 255, int(length[0]) & 255
    if start.size > 1 or length.size > 1 or begin + count > bits:
        raise NotImplementedError("bfe of a field that is not constant, or leaves the register")
    if count == 0:
        return np.zeros_like(a)
    return a << a.dtype.type(bits - begin - count) >> a.dtype.type(bits - count)


def _wide_product(instruction: Instruction) -> Step:
    narrow = dtype_of(instruction.type)
    wide = np.dtype(f"{narrow.kind}{2 * narrow.itemsize}")
    target, a, b, *c = instruction.operands

    def run(machine: Machine) -> None:
        result = machine.read(a, narrow).astype(wide) * machine.read(b, narrow).astype(wide)
        machine.write(target, result + machine.read(c[0], wide) if c else result)

    return run


_COMPARISONS: dict[str, Function] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


def _comparison(instruction: Instruction) -> Step:
    """`setp.lt.f32 p, a, b`."""
    name, kind = instruction.modifiers
    target, a, b = instruction.operands
    compare = _float_comparison(name) if is_float(kind) else _COMPARISONS[name]

    def run(machine: Machine) -> None:
        dtype = dtype_of(kind)
        result = compare(
            to_float(machine.read(a, dtype), kind), to_float(machine.read(b, dtype), kind)
        )
        machine.write(target, result)

    return run


def _float_comparison(name: str) -> Function:
    """`lt` is false of a NaN and `ltu` true; `num` and `nan` ask for nothing else."""

    def is_ordered(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return ~(np.isnan(a) | np.isnan(b))

    if name == "num":
        return is_ordered
    if name == "nan":
        return lambda a, b: ~is_ordered(a, b)
    if name in _COMPARISONS:
        compare = _COMPARISONS[name]
        return lambda a, b: compare(a, b) & is_ordered(a, b)
    unordered = _COMPARISONS[name.removesuffix("u")]
    return lambda a, b: unordered(a, b) | ~is_ordered(a, b)


def _selection(instruction: Instruction) -> Step:
    target, a, b, condition = instruction.operands
    dtype = dtype_of(instruction.type)

    def run(machine: Machine) -> None:
        chosen = machine.read(condition, np.dtype(np.bool_))
        machine.write(target, np.where(chosen, machine.read(a, dtype), machine.read(b, dtype)))

    return run


def _conversion(instruction: Instruction) -> Step:
    """`cvt.to.from d, a`, and `cvt.to.f32 d, a, b` whose first source fills the upper half."""
    to, source_kind = instruction.modifiers[-2:]
    options = frozenset(instruction.modifiers[:-2])
    target, *sources = instruction.operands

    def run(machine: Machine) -> None:
        dtype = dtype_of(source_kind)
        values = [machine.read(source, dtype) for source in sources]
        if len(values) == 2:
            pair = np.stack(np.broadcast_arrays(values[1], values[0]), -1)
        else:
            pair = lanes_of(values[0], source_kind)
        machine.write(target, converted(pair, to, source_kind, options))

    return run
