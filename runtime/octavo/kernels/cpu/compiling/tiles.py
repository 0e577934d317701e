"""Tile registers: AMX's eight registers of sixteen rows by 64 bytes, and what is done with them.

LLVM knows them only of functions that it compiles for CPUs with AMX, and then places them itself. Here they
are named, as assembly in kernels for any level of x86-64: which kernel runs is decided when it is called
(`matrix_units.py`), so that images need no level of their own for AMX, and no other kernel changes. Nothing
else that is compiled touches these registers, but a value in one does not outlive the function that put it
there.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import types

from octavo.kernels.cpu.compiling import vector as v

ROWS = 16
"""Of a register."""
ROW_ELEMENTS = 16
"""Floats, or pairs of bfloat16, of a row."""

_REGISTERS = 8
_I8, _I64 = ir.IntType(8), ir.IntType(64)
_ADDRESS = _I8.as_pointer()

# Assembly is parsed as it is compiled, and numba only prints it.
llvm.initialize_native_asmparser()


def palette() -> bytes:
    """What `ldtilecfg` reads: palette 1, all registers as large as they get."""
    shape = bytearray(64)
    shape[0] = 1
    for register in range(_REGISTERS):
        shape[16 + 2 * register] = 4 * ROW_ELEMENTS
        shape[48 + register] = ROWS
    return bytes(shape)


def load(builder: Any, register: int, address: Any, stride: Any) -> None:
    """Sixteen rows, `stride` bytes from one to the next."""
    _emit(builder, f"tileloadd ($0,$1,1), %tmm{register}", address, stride)


def store(builder: Any, register: int, address: Any, stride: Any) -> None:
    _emit(builder, f"tilestored %tmm{register}, ($0,$1,1)", address, stride)


def clear(builder: Any, register: int) -> None:
    _emit(builder, f"tilezero %tmm{register}")


def add_products(builder: Any, total: int, a: int, b: int) -> None:
    """`total[m][n] += a[m][k] . b[k][n]`, floats by pairs of bfloat16.

    A row's first and second numbers of pairs are summed apart, in order, before `total` gets both; what is
    denormal counts as 0.
    """
    _emit(builder, f"tdpbf16ps %tmm{b}, %tmm{a}, %tmm{total}")


def ask_for(builder: Any, address: Any) -> None:
    """Has the line at `address` fetched into the second cache; it may lie beyond all that is there."""
    _emit(builder, "prefetcht1 ($0)", address)


def _configure(builder: Any) -> None:
    shape = ir.Constant(ir.VectorType(_I8, 64), list(palette()))
    place = builder.alloca(shape.type)
    builder.store(shape, place)
    _emit(builder, "ldtilecfg ($0)", builder.bitcast(place, _ADDRESS))


def _release(builder: Any) -> None:
    _emit(builder, "tilerelease")


@v.intrinsic
def configure(typing_context: Any) -> Any:
    """Readies the registers of the calling thread."""
    del typing_context

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature, arguments
        _configure(builder)
        return context.get_dummy_value()

    return types.void(), generate


@v.intrinsic
def release(typing_context: Any) -> Any:
    """Gives them back: as long as they are in use, they are saved whenever the thread is interrupted."""
    del typing_context

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature, arguments
        _release(builder)
        return context.get_dummy_value()

    return types.void(), generate


def _emit(builder: Any, instruction: str, *operands: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [operand.type for operand in operands])
    constraints = ",".join(["r"] * len(operands) + ["~{memory}"])
    builder.asm(kind, instruction, constraints, operands, True)
