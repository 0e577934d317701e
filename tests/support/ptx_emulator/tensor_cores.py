"""Products of small matrices whose elements are spread over a warp's registers (PTX ISA 9.7.14.5).

Sums are rounded once: tensor cores round, or cut, more often, within float32.
"""

from __future__ import annotations

import re

import numpy as np

from .conversions import to_float
from .machine import WARP, Machine, Step
from .program import Instruction, Vector

_U4 = np.dtype("u4")
# Of an element's bits.
BITS = {"f16": np.uint16, "bf16": np.uint16, "e4m3": np.uint8}


def product_step(instruction: Instruction) -> Step | None:
    """`mma.sync.m16n8kK` with sums in float32, or None."""
    if instruction.opcode != "mma":
        return None
    shape = next(
        re.fullmatch(r"m16n8k(\d+)", word) for word in instruction.modifiers if word[0] == "m"
    )
    *_, d_kind, a_kind, b_kind, c_kind = instruction.modifiers
    if shape is None or (d_kind, c_kind) != ("f32", "f32") or a_kind not in BITS:
        raise NotImplementedError(instruction.text)
    target, a, b, c = instruction.operands
    assert isinstance(target, Vector)
    assert isinstance(a, Vector)
    assert isinstance(b, Vector)
    assert isinstance(c, Vector)

    def run(machine: Machine) -> None:
        machine.whole_warps()
        left = rows_of_a(fragments(machine, a), a_kind)
        right = _columns_of_b(fragments(machine, b), b_kind)
        sums = fragments(machine, c).view(np.float32)
        product = accumulators(np.matmul(left, right))
        for index, part in enumerate(target.parts):
            machine.write(
                part, (product[..., index] + sums[..., index]).astype(np.float32).reshape(-1)
            )

    return run


def fragments(machine: Machine, vector: Vector) -> np.ndarray:
    """The registers' bits, `[warps, 32, registers]`."""
    parts = [
        np.broadcast_to(machine.read(part, _U4), (machine.num_lanes,)) for part in vector.parts
    ]
    return np.stack(parts, -1).reshape(-1, WARP, len(parts))


def _numbers(registers: np.ndarray, kind: str) -> np.ndarray:
    """The two or four elements of each register, as float64, along a new last axis."""
    parts = np.ascontiguousarray(registers)[..., None].view(BITS[kind])
    return to_float(parts, kind).astype(np.float64)


def rows_of_a(registers: np.ndarray, kind: str) -> np.ndarray:
    """`[warps, 16, k]`: register r holds rows `lane / 4 + 8 (r % 2)`, columns from the half r / 2 of k."""
    warps, _, count = registers.shape
    elements = _numbers(registers, kind).reshape(warps, 8, 4, count // 2, 2, -1)
    return elements.transpose(0, 4, 1, 3, 2, 5).reshape(warps, 16, -1)


def _columns_of_b(registers: np.ndarray, kind: str) -> np.ndarray:
    """`[warps, k, 8]`: column `lane / 4`; register r holds rows from its own part of k."""
    warps, _, count = registers.shape
    elements = _numbers(registers, kind).reshape(warps, 8, 4, count, -1)
    return elements.transpose(0, 3, 2, 4, 1).reshape(warps, -1, 8)


def accumulators(product: np.ndarray) -> np.ndarray:
    """`[warps, 32, 4]` from `[warps, 16, 8]`: rows `lane / 4` and 8 below, columns from `2 (lane % 4)`."""
    elements = product.reshape(-1, 2, 8, 4, 2)
    return elements.transpose(0, 2, 3, 1, 4).reshape(-1, WARP, 4)
