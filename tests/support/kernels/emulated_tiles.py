"""Instructions of AMX that our kernels use, in LLVM that any CPU runs.

What they do is Intel's description of them, element by element: sums of a row's first and second numbers of
pairs apart, by fused multiplication and addition, denormals as zeros. Registers belong to the function that
uses them, and hold NaN when it begins: a value that should outlive its function is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from llvmlite import ir
from numba.core import cgutils

from octavo.kernels.cpu.compiling import tiles, vector

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_ROW = ir.VectorType(_I32, 16)
_FLOATS = ir.VectorType(ir.FloatType(), 16)
_REGISTER = ir.ArrayType(_ROW, 16)
_NAN = ir.Constant(_ROW, [0x7FC00000] * 16)


@contextmanager
def emulated_tiles() -> Iterator[None]:
    """For kernels that are compiled within it."""
    registers = _Registers()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("load", "store", "clear", "add_products"):
            patch.setattr(tiles, name, getattr(registers, name))
        patch.setattr(tiles, "ask_for", lambda builder, address: None)
        for name in ("_configure", "_release"):
            patch.setattr(tiles, name, lambda builder: None)
        yield


class _Registers:
    def __init__(self) -> None:
        self._of_functions: dict[Any, list[Any]] = {}

    def load(self, builder: Any, register: int, address: Any, stride: Any) -> None:
        with _rows(builder) as row:
            place = _row_at(builder, address, row, stride)
            builder.store(builder.load(place, align=1), self._row(builder, register, row))

    def store(self, builder: Any, register: int, address: Any, stride: Any) -> None:
        with _rows(builder) as row:
            place = _row_at(builder, address, row, stride)
            builder.store(builder.load(self._row(builder, register, row)), place, align=1)

    def clear(self, builder: Any, register: int) -> None:
        with _rows(builder) as row:
            builder.store(_ints(0), self._row(builder, register, row))

    def add_products(self, builder: Any, total: int, a: int, b: int) -> None:
        sums = [cgutils.alloca_once(builder, _FLOATS) for _ in range(2)]
        with _rows(builder) as m:
            for place in sums:
                builder.store(ir.Constant(_FLOATS, [0.0] * 16), place)
            with _rows(builder) as k:
                row = builder.bitcast(self._row(builder, a, m), _I32.as_pointer())
                pair = builder.load(builder.gep(row, [k]))
                pair = _splat(builder, pair)
                other = builder.load(self._row(builder, b, k))
                for place, x, y in zip(
                    sums, _parts(builder, pair), _parts(builder, other), strict=True
                ):
                    added = vector.call(
                        builder, "llvm.fma.v16f32", _FLOATS, x, y, builder.load(place)
                    )
                    builder.store(_flushed(builder, added), place)
            row = self._row(builder, total, m)
            both = _flushed(builder, builder.fadd(*(builder.load(place) for place in sums)))
            before = _flushed(builder, builder.bitcast(builder.load(row), _FLOATS))
            after = _flushed(builder, builder.fadd(before, both))
            builder.store(builder.bitcast(after, _ROW), row)

    def _row(self, builder: Any, register: int, row: Any) -> Any:
        own = self._of_functions.get(builder.function)
        if own is None:
            own = [cgutils.alloca_once(builder, _REGISTER) for _ in range(8)]
            self._of_functions[builder.function] = own
            with builder.goto_entry_block():
                for place in own:
                    builder.store(ir.Constant(_REGISTER, [_NAN] * 16), place)
        return builder.gep(own[register], [_I64(0), row])


@contextmanager
def _rows(builder: Any) -> Iterator[Any]:
    with cgutils.for_range(builder, _I64(16)) as loop:
        yield loop.index


def _row_at(builder: Any, address: Any, row: Any, stride: Any) -> Any:
    return builder.bitcast(builder.gep(address, [builder.mul(row, stride)]), _ROW.as_pointer())


def _parts(builder: Any, pairs: Any) -> tuple[Any, Any]:
    low = builder.shl(pairs, _ints(16))
    high = builder.and_(pairs, _ints(0xFFFF0000))
    return tuple(_flushed(builder, builder.bitcast(part, _FLOATS)) for part in (low, high))


def _flushed(builder: Any, floats: Any) -> Any:
    bits = builder.bitcast(floats, _ROW)
    exponent = builder.and_(bits, _ints(0x7F800000))
    is_small = builder.icmp_unsigned("==", exponent, _ints(0))
    zero = builder.and_(bits, _ints(0x80000000))
    return builder.bitcast(builder.select(is_small, zero, bits), _FLOATS)


def _splat(builder: Any, value: Any) -> Any:
    empty = ir.Constant(_ROW, ir.Undefined)
    first = builder.insert_element(empty, value, _I32(0))
    return builder.shuffle_vector(first, empty, _ints(0))


def _ints(value: int) -> Any:
    return ir.Constant(_ROW, [value] * 16)
