"""Loads, stores, asynchronous copies and atomic operations (PTX ISA 9.7.9 and 9.7.13)."""

from __future__ import annotations

import numpy as np

from .conversions import dtype_of
from .machine import Machine, Step
from .program import Address, Constant, Instruction, Operand, Vector

_U4, _U8 = np.dtype("u4"), np.dtype("u8")


def access_step(instruction: Instruction) -> Step | None:
    """The step of such an instruction, or None."""
    opcode, modifiers = instruction.opcode, instruction.modifiers
    if opcode == "cp" and modifiers[0] == "async":
        return _asynchronous_copy(instruction)
    if opcode == "atom" and modifiers[0] == "global":
        return _atomic(instruction)
    if opcode == "ld" and modifiers[0] == "param":
        return _parameter(instruction)
    if opcode in ("ld", "st") and modifiers[0] in ("global", "shared", "shared::cta"):
        return _load(instruction) if opcode == "ld" else _store(instruction)
    if opcode == "fence" and modifiers[:2] == ("proxy", "async"):
        return lambda machine: machine.shared.fence(np.unique(machine.of_active(machine.slot)))
    if opcode == "createpolicy":  # of a cache, which this machine lacks
        return lambda machine: machine.write(instruction.operands[0], np.zeros(1, np.uint64))
    # Orders what this machine does in order anyway.
    if opcode in ("fence", "membar", "griddepcontrol"):
        return lambda machine: None
    return None


def _parameter(instruction: Instruction) -> Step:
    target, address = instruction.operands
    dtype = dtype_of(instruction.type)
    assert isinstance(address, Address)
    name = address.base

    def run(machine: Machine) -> None:
        assert isinstance(name, str)
        machine.write(target, Constant(machine.arguments[name]).of(dtype))

    return run


def _parts(operand: Operand | None) -> tuple[Operand | None, ...]:
    return operand.parts if isinstance(operand, Vector) else (operand,)


def _shared_places(
    machine: Machine, address: Operand | None, width: int
) -> tuple[np.ndarray, int, np.ndarray]:
    """Where the active threads access shared memory, how wide, and which warps they are of."""
    slots = machine.of_active(machine.slot)
    places = machine.shared.places(slots, machine.addresses(address, _U4), width)
    return places, width, machine.of_active(machine.warps)


def _load(instruction: Instruction) -> Step:
    targets, address = instruction.operands[:2]
    dtype = dtype_of(instruction.type)
    parts = _parts(targets)
    width = dtype.itemsize * len(parts)
    is_global = instruction.modifiers[0] == "global"

    def run(machine: Machine) -> None:
        if is_global:
            threads = machine.of_active(machine.threads)
            loaded = machine.memory.read(machine.addresses(address, _U8), width, threads)
        else:
            loaded = machine.shared.read(*_shared_places(machine, address, width))
        values = loaded.view(dtype).reshape(-1, len(parts))
        for index, part in enumerate(parts):
            machine.write(part, machine.to_all(values[:, index]))

    return run


def _store(instruction: Instruction) -> Step:
    address, sources = instruction.operands[:2]
    dtype = dtype_of(instruction.type)
    parts = _parts(sources)
    width = dtype.itemsize * len(parts)
    is_global = instruction.modifiers[0] == "global"

    def run(machine: Machine) -> None:
        values = np.stack([machine.of_active(machine.read(part, dtype)) for part in parts], -1)
        whole = np.dtype(f"u{width}") if width <= 8 else np.dtype(f"V{width}")
        packed = values.view(whole)[:, 0]
        if is_global:
            threads = machine.of_active(machine.threads)
            machine.memory.write(machine.addresses(address, _U8), packed, threads)
        else:
            places, _, warps = _shared_places(machine, address, width)
            machine.shared.write(places, packed, warps)

    return run


def _asynchronous_copy(instruction: Instruction) -> Step:
    kind = instruction.modifiers[1]
    if kind == "commit_group":
        return lambda machine: machine.copies.commit(machine.whole_blocks())
    if kind in ("wait_group", "wait_all"):
        count = instruction.operands[0] if instruction.operands else Constant(0)
        assert isinstance(count, Constant)
        in_flight = count.bits
        return lambda machine: machine.copies.wait(machine.whole_blocks(), in_flight)
    target, source, size, *taken = instruction.operands
    assert isinstance(size, Constant)
    width = size.bits

    def run(machine: Machine) -> None:
        places, _, warps = _shared_places(machine, target, width)
        addresses = machine.addresses(source, _U8)
        values = np.zeros(len(places), f"V{width}")
        chosen = np.full(len(places), width)
        if taken:
            chosen = machine.of_active(machine.read(taken[0], _U4))
        if not np.isin(chosen, (0, width)).all():
            raise NotImplementedError("a copy of less than its size")
        whole = chosen == width
        threads = machine.of_active(machine.threads)[whole]
        values[whole] = machine.memory.read(addresses[whole], width, threads).view(f"V{width}")
        machine.copies.begin(machine.of_active(machine.slot), warps, places, values)

    return run


def _atomic(instruction: Instruction) -> Step:
    """`atom.global.add`: one thread after the other, in any order."""
    if instruction.modifiers[-2] != "add":
        raise NotImplementedError(instruction.text)
    dtype = dtype_of(instruction.type)
    target, address, source = instruction.operands
    draw = np.random.default_rng(0)
    acquires = bool({"acquire", "acq_rel"} & set(instruction.modifiers))
    releases = bool({"release", "acq_rel"} & set(instruction.modifiers))

    def run(machine: Machine) -> None:
        places = machine.addresses(address, _U8)
        threads = machine.of_active(machine.threads)
        values = machine.of_active(machine.read(source, dtype))
        before = np.zeros(len(places), dtype)
        for index in draw.permutation(len(places)):
            place, thread = int(places[index]), int(threads[index])
            machine.memory.races.synchronise(place, thread, acquires=acquires, releases=releases)
            before[index] = machine.memory.add(place, values[index])
        machine.write(target, machine.to_all(before))

    return run
