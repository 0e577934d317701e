"""AMX's registers as they come out of the compiler; nothing here runs the instructions."""

from __future__ import annotations

import itertools
import platform
import re
import struct

import pytest

from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.NUMBA)
import llvmlite.binding as llvm
import numba

from octavo.kernels.cpu.attention.amx_form import by_registers
from octavo.kernels.cpu.compiling import tiles
from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.tiles import configure, release


@pytest.mark.skipif(platform.machine() != "x86_64", reason="assembly of x86-64")
def test_registers_are_amx_in_machine_code() -> None:
    """Of both products as they are compiled for Sapphire Rapids: the registers are configured before the
    first is used and released after the last, and no function leaves anything in one for another."""
    form = by_registers()
    score, add_values = form.score, form.add_values

    def products(address: int) -> None:
        configure()
        pairs, floats = v.int32_at(address), v.float32_at(address)
        score((pairs, 0, 16, 1), (pairs, 0), 16, (floats, 0), (floats, 0))
        add_values((pairs, 96, pairs), pairs, 32, address, (floats, 0), (floats, 0))
        release()

    compiled = numba.cfunc("void(int64)", error_model="numpy", boundscheck=False)(products)
    module = llvm.parse_assembly(compiled._library.get_llvm_str())
    target = llvm.Target.from_triple(module.triple)
    machine = target.create_target_machine(cpu="sapphirerapids", opt=3)
    found = instructions_by_function(machine.emit_assembly(module))
    names = [line.split()[0] for lines in found for line in lines]
    assert {"tileloadd", "tilestored", "tilezero"} <= set(names)
    assert names.count("ldtilecfg") == names.count("tilerelease") == 1
    lines = next(lines for lines in found if "tilerelease" in lines)
    assert lines[0].startswith("ldtilecfg")
    assert lines[-1] == "tilerelease"
    for lines in found:
        for before, after in itertools.pairwise(lines):
            assert not after.startswith("call") or before.startswith(("tilest", "ldtile", "call"))
            assert not before.startswith("call") or after.startswith(
                ("tilez", "tilel", "tiler", "c")
            )
    products_of = [
        tuple(line.removeprefix("tdpbf16ps ").split(", "))
        for lines in found
        for line in lines
        if line.startswith("tdpbf16ps")
    ]
    # Columns and rows of 32 each, and a register of sums for each two that are multiplied.
    whole = {
        (f"%tmm{6 + n}", f"%tmm{4 + m}", f"%tmm{2 * m + n}") for m in range(2) for n in range(2)
    }
    assert set(products_of) == whole


def instructions_by_function(assembly: str) -> list[list[str]]:
    """Of registers, and calls."""
    functions: list[list[str]] = []
    for line in assembly.splitlines():
        if line.endswith(":") and not line.startswith((".", "\t")):
            functions.append([])
        words = line.split()
        if functions and words and re.match("tile|ldtile|tdp|call", words[0]):
            functions[-1].append(" ".join(words))
    return functions


def test_the_palette_gives_every_register_all_its_rows() -> None:
    palette = tiles.palette()
    assert (len(palette), palette[0], palette[1]) == (64, 1, 0)
    assert struct.unpack("<8H", palette[16:32]) == (64,) * 8
    assert palette[48:56] == bytes([16] * 8)
    assert not any(palette[2:16] + palette[32:48] + palette[56:])
