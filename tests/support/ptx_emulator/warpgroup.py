"""Hopper's asynchronous products of a warpgroup of four warps (PTX ISA 9.7.15).

`wgmma` reads its operands from shared memory by descriptors, or the left one from registers, and adds to
sums in registers. Here a product is computed when it is issued, as early as a GPU may; the sums are seen
when they have been waited for, as late as a GPU may, and operands that have changed by then are a fault.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from .conversions import to_float
from .machine import WARP, ExecutionFault, Machine, Step
from .program import Constant, Instruction, Operand, Vector
from .tensor_cores import BITS, accumulators, fragments, rows_of_a

GROUP = 4 * WARP
_U8 = np.dtype("u8")
_SWIZZLED_BYTES = {0: 16, 1: 128, 2: 64, 3: 32}


def warpgroup_step(instruction: Instruction) -> Step | None:
    """The step of a `wgmma` instruction, or None."""
    if instruction.opcode != "wgmma":
        return None
    match instruction.modifiers[0]:
        case "fence":
            return _fence
        case "commit_group":
            return lambda machine: machine.products.commit(machine.whole_blocks())
        case "wait_group":
            (count,) = instruction.operands
            assert isinstance(count, Constant)
            in_flight = count.bits
            return lambda machine: machine.products.wait(machine, in_flight)
        case "mma_async":
            return _product(instruction)
    raise NotImplementedError(instruction.text)


def _fence(machine: Machine) -> None:
    machine.whole_warps()


def _product(instruction: Instruction) -> Step:
    shape = re.fullmatch(r"m64n(\d+)k(16|32)", instruction.modifiers[3])
    d_kind, a_kind, b_kind = instruction.modifiers[4:]
    target, a, b, adds, *signs = instruction.operands
    assert isinstance(target, Vector)
    flags = [sign.bits for sign in signs if isinstance(sign, Constant)]
    if shape is None or d_kind != "f32" or a_kind not in BITS or flags[:2] != [1, 1]:
        raise NotImplementedError(instruction.text)
    columns, depth = int(shape[1]), int(shape[2])
    # Elements of one byte are never transposed, and not asked about.
    *transposes_a, transposes_b = flags[2:] or [0, 0]

    def run(machine: Machine) -> None:
        machine.whole_warps()
        if isinstance(a, Vector):
            left = rows_of_a(fragments(machine, a), a_kind).reshape(-1, 64, depth)
        else:
            left = _from_shared(machine, a, 64, a_kind, transposed=bool(transposes_a[0]))
        right = _from_shared(machine, b, columns, b_kind, transposed=bool(transposes_b))
        sums = np.matmul(left, right.swapaxes(1, 2))
        added = np.broadcast_to(machine.read(adds, np.dtype(np.bool_)), (machine.num_lanes,))
        # Each warp has 16 of the 64 rows; 8 columns at a time are spread as those of `mma`.
        tiles = sums.reshape(-1, 16, columns // 8, 8).swapaxes(1, 2)
        spread = accumulators(tiles.reshape(-1, 16, 8)).reshape(-1, columns // 8, WARP, 4)
        for index, part in enumerate(target.parts):
            product = spread[:, index // 4, :, index % 4].reshape(-1)
            before = machine.products.latest(machine, part).view(np.float32)
            total = np.where(added, before, np.float32(0)) + product
            machine.products.begin(machine, part, total.astype(np.float32).view(np.uint32))

    return run


@dataclass(frozen=True, slots=True)
class _Descriptor:
    """Where a matrix lies in shared memory (PTX ISA 9.7.15.5.1.2), of every warpgroup: `[groups]`, bytes."""

    begin: np.ndarray
    leading: np.ndarray
    stride: np.ndarray
    width: int

    @staticmethod
    def of(bits: np.ndarray) -> _Descriptor:
        def field(first: int, count: int) -> np.ndarray:
            return (bits >> np.uint64(first) & np.uint64((1 << count) - 1)).astype(np.int64)

        modes = np.unique(field(62, 2))
        if len(modes) > 1 or field(49, 3).any():
            raise NotImplementedError("descriptors of several layouts, or with a base offset")
        return _Descriptor(
            field(0, 14) << 4,
            field(16, 14) << 4,
            field(32, 14) << 4,
            _SWIZZLED_BYTES[int(modes[0])],
        )

    def chunks(self, count: int, *, transposed: bool) -> np.ndarray:
        """Addresses of 16 bytes each, which a swizzle never parts.

        `[groups, count, 2]` of a matrix whose rows of k are contiguous, `[groups, 16, count / 8]` of a
        transposed one.
        """
        atoms = self.width // 16
        if transposed:
            outer, inner = np.arange(16), np.arange(count // 8)
            rows, columns = outer[:, None], inner[None, :]
            steps = (columns // atoms, rows // 8)
            within = rows % 8 * self.width + columns % atoms * 16
        else:
            outer, inner = np.arange(count), np.arange(2)
            rows, columns = outer[:, None], inner[None, :]
            steps = (columns if atoms == 1 else columns * 0, rows // 8)
            within = rows % 8 * self.width + (0 if atoms == 1 else columns * 16)
        places = self.begin[:, None, None] + within
        places = (
            places + steps[0] * self.leading[:, None, None] + steps[1] * self.stride[:, None, None]
        )
        return places ^ ((places >> 7 & atoms - 1) << 4)


def _from_shared(
    machine: Machine, operand: Operand | None, count: int, kind: str, *, transposed: bool
) -> np.ndarray:
    """`[groups, count, k]`, as float64; nothing but poison of the groups that are not active."""
    bits = np.broadcast_to(machine.read(operand, _U8), (machine.num_lanes,)).reshape(-1, GROUP)
    if (bits != bits[:, :1]).any():
        raise ExecutionFault("the threads of a warpgroup have different descriptors")
    groups: np.ndarray = np.ones(len(bits), np.bool_)
    if machine.active is not None:
        groups = machine.active.reshape(-1, GROUP).all(1)
        if (machine.active.reshape(-1, GROUP).any(1) != groups).any():
            raise ExecutionFault("not all threads of a warpgroup reach its product")
    addresses = _Descriptor.of(bits[groups, 0]).chunks(count, transposed=transposed)
    slots = np.broadcast_to(machine.slot[::GROUP][groups][:, None, None], addresses.shape)
    places = machine.shared.places(slots.reshape(-1), addresses.reshape(-1), 16)
    values = machine.products.read(slots.reshape(-1), places, 16)
    elements = to_float(values.view(BITS[kind]), kind)
    numbers = elements.reshape(len(addresses), addresses.shape[1], -1)
    if transposed:
        numbers = numbers.swapaxes(1, 2)
    every = np.full((len(groups), *numbers.shape[1:]), np.nan)
    every[groups] = numbers
    return every
