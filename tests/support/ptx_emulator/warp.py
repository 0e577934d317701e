"""Instructions by which the threads of a warp exchange values.

PTX ISA 9.7.9.6 (`shfl.sync`), 9.7.13.10 (`redux.sync`), 9.7.14.5.15 and 16 (`ldmatrix`, `stmatrix`).

Arrays over threads are seen as `[warps, 32]`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .conversions import dtype_of
from .machine import WARP, ExecutionFault, Machine, Step
from .program import Address, Constant, Instruction, Operand, Register, Vector

_LANE = np.arange(WARP)
_U4 = np.dtype("u4")


def warp_step(instruction: Instruction) -> Step | None:
    """The step of such an instruction, or None."""
    makers: dict[str, Callable[[Instruction], Step]] = {
        "shfl": _shuffle,
        "redux": _reduction,
        "ldmatrix": _load_matrices,
        "stmatrix": _store_matrices,
        "bar": _warp_barrier,
    }
    maker = makers.get(instruction.opcode)
    return maker(instruction) if maker else None


def _warp_barrier(instruction: Instruction) -> Step:
    (mask,) = instruction.operands

    def run(machine: Machine) -> None:
        _members(machine, mask)

    return run


def _members(machine: Machine, mask: Operand | None) -> np.ndarray:
    """`[warps, 32]`: the threads that the mask names.

    Raises:
        ExecutionFault: A thread of the mask is not here, or a thread is here that the mask leaves out.
    """
    bits = _by_warp(machine, machine.read(mask, _U4))
    members = (bits >> _LANE.astype(np.uint32) & np.uint32(1)).astype(np.bool_)
    here = np.ones_like(members) if machine.active is None else machine.active.reshape(-1, WARP)
    if (here.any(1, keepdims=True) & (members != here)).any():
        raise ExecutionFault("the mask of a warp's instruction is not the threads that reach it")
    return members


def _by_warp(machine: Machine, values: np.ndarray) -> np.ndarray:
    return np.broadcast_to(values, (machine.num_lanes,)).reshape(-1, WARP)


def _shuffle(instruction: Instruction) -> Step:
    mode = instruction.modifiers[1]
    target, *found = instruction.operands[:-4]
    source, place, limits, mask = instruction.operands[-4:]

    def run(machine: Machine) -> None:
        _members(machine, mask)
        values = _by_warp(machine, machine.read(source, _U4))
        by = _by_warp(machine, machine.read(place, _U4)).astype(np.int64) & 31
        clamp = _by_warp(machine, machine.read(limits, _U4)).astype(np.int64)
        segment = clamp >> 8 & 31
        last = (_LANE & segment) | (clamp & 31 & ~segment)
        match mode:
            case "up":
                other = _LANE - by
                inside = other >= last
            case "down":
                other = _LANE + by
                inside = other <= last
            case "bfly":
                other = _LANE ^ by
                inside = other <= last
            case _:
                other = (_LANE & segment) | (by & ~segment)
                inside = other <= last
        other = np.where(inside, other, _LANE)
        machine.write(target, np.take_along_axis(values, other, 1).reshape(-1))
        if found:
            machine.write(found[0], inside.reshape(-1))

    return run


def _reduction(instruction: Instruction) -> Step:
    _, name, kind = instruction.modifiers
    target, source, mask = instruction.operands
    function = {"add": np.add, "min": np.minimum, "max": np.maximum}[name]
    dtype = dtype_of(kind)
    neutral = {"add": 0, "min": np.iinfo(dtype).max, "max": np.iinfo(dtype).min}[name]

    def run(machine: Machine) -> None:
        members = _members(machine, mask)
        values = np.where(
            members, _by_warp(machine, machine.read(source, dtype)), dtype.type(neutral)
        )
        machine.write(target, np.repeat(function.reduce(values, 1, dtype=dtype), WARP))

    return run


def _shape(instruction: Instruction) -> tuple[int, bool]:
    """How many 8x8 matrices of 16 bits, and whether they are transposed."""
    if not {"m8n8", "b16"} <= set(instruction.modifiers):
        raise NotImplementedError(instruction.text)
    count = next(int(word[1:]) for word in instruction.modifiers if word in ("x1", "x2", "x4"))
    return count, "trans" in instruction.modifiers


def _row_places(
    machine: Machine, warps: np.ndarray, address: Address, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where the rows of 16 bytes lie, `[warps * matrices * 8]`, and of which warps they are.

    Thread `8 * matrix + row` of a warp names each.
    """
    assert isinstance(address.base, Register | Constant)
    every = _by_warp(machine, machine.read(address.base, _U4)).astype(np.int64) + address.offset
    slots = machine.slot.reshape(-1, WARP)
    rows = slice(0, 8 * count)
    places = machine.shared.places(
        slots[warps, rows].reshape(-1), every[warps, rows].reshape(-1), 16
    )
    return places, machine.warps.reshape(-1, WARP)[warps, rows].reshape(-1)


def _load_matrices(instruction: Instruction) -> Step:
    count, transposed = _shape(instruction)
    targets, address = instruction.operands
    assert isinstance(targets, Vector)
    assert isinstance(address, Address)

    def run(machine: Machine) -> None:
        warps = machine.whole_warps()
        places, readers = _row_places(machine, warps, address, count)
        rows = machine.shared.read(places, 16, readers).view(np.uint16)
        matrices = rows.reshape(-1, count, 8, 8)
        if transposed:
            matrices = matrices.swapaxes(2, 3)
        # Thread t holds the elements 2 (t % 4) and the next of row t / 4: in memory they lie in its order.
        values = np.ascontiguousarray(matrices).view(np.uint32).reshape(-1, count, WARP)
        for index, target in enumerate(targets.parts):
            spread = np.zeros((len(warps), WARP), np.uint32)
            spread[warps] = values[:, index]
            machine.write(target, spread.reshape(-1))

    return run


def _store_matrices(instruction: Instruction) -> Step:
    count, transposed = _shape(instruction)
    address, sources = instruction.operands
    assert isinstance(sources, Vector)
    assert isinstance(address, Address)

    def run(machine: Machine) -> None:
        warps = machine.whole_warps()
        places, writers = _row_places(machine, warps, address, count)
        values = [_by_warp(machine, machine.read(source, _U4))[warps] for source in sources.parts]
        matrices = np.stack(values, 1).view(np.uint16).reshape(-1, count, 8, 8)
        if transposed:
            matrices = matrices.swapaxes(2, 3)
        rows = np.ascontiguousarray(matrices).view("V16").reshape(-1)
        machine.shared.write(places, rows, writers)

    return run
