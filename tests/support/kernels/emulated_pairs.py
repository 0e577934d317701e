"""Instructions of AVX512-BF16 and -VBMI that our kernels use, in LLVM that any CPU runs.

What they do is Intel's description of them, element by element. Kernels that are compiled under
`emulated_pairs` take the way that only CPUs with these instructions take otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from llvmlite import ir
from numba.core import cgutils

from octavo.kernels.cpu.compiling import vector
from octavo.kernels.cpu.products import unpack_panels

_I32, _I64 = ir.IntType(32), ir.IntType(64)


@contextmanager
def emulated_pairs() -> Iterator[None]:
    real = vector.call

    def call(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
        emulate = _EMULATED.get(name)
        if emulate is None:
            return real(builder, name, result, *arguments)
        return emulate(builder, result, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector, "call", call)
        patch.setattr(unpack_panels, "has_pair_products", lambda: True)
        yield


def _looked_up(builder: Any, tables: tuple[Any, ...], index: Any) -> Any:
    """`concat(tables)[index]`, of whose bits so many count as the tables need."""
    element, lanes = index.type.element, index.type.count
    count = lanes * len(tables)
    memory = cgutils.alloca_once(builder, ir.ArrayType(element, count))
    memory = builder.bitcast(memory, element.as_pointer())
    for number, table in enumerate(tables):
        place = builder.bitcast(
            builder.gep(memory, [_I64(number * lanes)]), table.type.as_pointer()
        )
        builder.store(table, place, align=1)
    found = ir.Constant(index.type, ir.Undefined)
    for lane in range(lanes):
        one = builder.zext(builder.extract_element(index, _I32(lane)), _I64)
        value = builder.load(builder.gep(memory, [builder.and_(one, _I64(count - 1))]))
        found = builder.insert_element(found, value, _I32(lane))
    return found


def _vpermw(builder: Any, result: Any, table: Any, index: Any) -> Any:
    return _looked_up(builder, (table,), index)


def _vpermi2b(builder: Any, result: Any, low: Any, index: Any, high: Any) -> Any:
    return _looked_up(builder, (low, high), index)


def _vdpbf16ps(builder: Any, result: Any, total: Any, a: Any, b: Any) -> Any:
    integers = ir.VectorType(_I32, 16)

    def parts(pairs: Any) -> tuple[Any, Any]:
        low = builder.shl(pairs, ir.Constant(integers, [16] * 16))
        high = builder.and_(pairs, ir.Constant(integers, [0xFFFF0000] * 16))
        return builder.bitcast(low, result), builder.bitcast(high, result)

    for x, y in zip(parts(a), parts(b), strict=True):
        total = builder.fadd(total, builder.fmul(x, y))
    return total


_EMULATED: dict[str, Callable[..., Any]] = {
    "llvm.x86.avx512.permvar.hi.512": _vpermw,
    "llvm.x86.avx512.vpermi2var.qi.512": _vpermi2b,
    "llvm.x86.avx512bf16.dpbf16ps.512": _vdpbf16ps,
}
