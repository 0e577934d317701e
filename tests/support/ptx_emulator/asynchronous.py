"""Asynchronous work of a GPU: copies into shared memory, and Hopper's products of warpgroups.

Nothing of it can be seen before it has been waited for, which is when a GPU promises it and no earlier.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from .memory import SharedMemory
from .program import Operand, Register
from .races import RaceFault

if TYPE_CHECKING:
    from .machine import Machine

_U4 = np.dtype("u4")


@dataclass
class _Copy:
    """Bytes on their way to places in shared memory, of the groups that their blocks will commit next."""

    slots: np.ndarray
    groups: np.ndarray
    warps: np.ndarray
    places: np.ndarray
    values: np.ndarray

    def of(self, chosen: np.ndarray) -> _Copy:
        """Some of the accesses."""
        return _Copy(*(getattr(self, one.name)[chosen] for one in fields(self)))


class AsynchronousCopies:
    """`cp.async` and its groups (PTX ISA 9.7.9.25.3), of several thread blocks.

    A group is a thread's; here it is a block's, all of whose threads must commit and wait together.
    """

    def __init__(self, shared: SharedMemory, num_blocks: int) -> None:
        self._shared = shared
        self._committed = np.zeros(num_blocks, np.int64)
        self._pending: list[_Copy] = []

    def begin(
        self, slots: np.ndarray, warps: np.ndarray, places: np.ndarray, values: np.ndarray
    ) -> None:
        """`[copies]`; from now on until they are waited for the places hold poison."""
        poison = np.full(values.itemsize, 0xFF, np.uint8).view(values.dtype)
        self._shared.write(places, np.broadcast_to(poison, values.shape), warps)
        self._pending.append(_Copy(slots, self._committed[slots], warps, places, values))

    def commit(self, slots: np.ndarray) -> None:
        self._committed[slots] += 1

    def wait(self, slots: np.ndarray, in_flight: int) -> None:
        """All but the latest `in_flight` groups of these blocks arrive."""
        limit = np.full(len(self._committed), -1)
        limit[slots] = self._committed[slots] - in_flight
        remaining = []
        for copy in self._pending:
            arrives = copy.groups < limit[copy.slots]
            if arrives.any():
                some = copy.of(arrives)
                self._shared.write(some.places, some.values, some.warps)
            if not arrives.all():
                remaining.append(copy.of(~arrives))
        self._pending = remaining


@dataclass(frozen=True, slots=True)
class _Operands:
    """What products under way have read: bytes at places of their blocks' shared memory."""

    slots: np.ndarray
    groups: np.ndarray
    places: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, slots=True)
class _Sums:
    """A register's coming values; `groups` says for each thread of which group, -1: of none."""

    register: Register
    values: np.ndarray
    groups: np.ndarray


class WarpgroupProducts:
    """`wgmma` that has not been waited for, and its groups (PTX ISA 9.7.15.7), of several thread blocks."""

    def __init__(self, shared: SharedMemory, num_blocks: int) -> None:
        self._shared = shared
        self._committed = np.zeros(num_blocks, np.int64)
        self._operands: list[_Operands] = []
        self._sums: dict[str, _Sums] = {}

    def read(self, slots: np.ndarray, places: np.ndarray, width: int) -> np.ndarray:
        """Operands, `[accesses]`; they must stay as they are until the product is waited for."""
        values = self._shared.read_asynchronously(places, width)
        self._operands.append(_Operands(slots, self._committed[slots], places, values))
        return values

    def latest(self, machine: Machine, part: Operand | None) -> np.ndarray:
        """A register as the next product finds it, `[threads]`."""
        values = np.broadcast_to(machine.read(part, _U4), (machine.num_lanes,))
        if isinstance(part, Register) and part.name in self._sums:
            sums = self._sums[part.name]
            values = np.where(sums.groups >= 0, sums.values, values)
        return np.ascontiguousarray(values)

    def begin(self, machine: Machine, part: Operand | None, values: np.ndarray) -> None:
        """The register is poison from now on; the next product in turn finds these sums."""
        assert isinstance(part, Register)
        here = np.ones(machine.num_lanes, np.bool_) if machine.active is None else machine.active
        nothing = _Sums(part, values, np.full(machine.num_lanes, -1))
        before = self._sums.get(part.name, nothing)
        self._sums[part.name] = _Sums(
            part,
            np.where(here, values, before.values),
            np.where(here, self._committed[machine.slot], before.groups),
        )
        machine.write(part, np.array([-1], np.int32))

    def commit(self, slots: np.ndarray) -> None:
        """What these blocks have begun is a group."""
        self._committed[slots] += 1

    def wait(self, machine: Machine, in_flight: int) -> None:
        """The sums of all but the latest groups of the active blocks arrive."""
        slots = machine.whole_blocks()
        limit = np.full(len(self._committed), -1)
        limit[slots] = self._committed[slots] - in_flight
        remaining = []
        for read in self._operands:
            done = read.groups < limit[read.slots]
            now = self._shared.peek(read.places, read.values.dtype.itemsize)
            if (now != read.values)[done].any():
                raise RaceFault(
                    "an operand of a product is overwritten before the product is waited for"
                )
            if not done.all():
                left = ~done
                remaining.append(
                    _Operands(
                        read.slots[left], read.groups[left], read.places[left], read.values[left]
                    )
                )
        self._operands = remaining
        active = machine.active
        for name, sums in list(self._sums.items()):
            machine.active = (sums.groups >= 0) & (sums.groups < limit[machine.slot])
            machine.write(sums.register, sums.values)
            groups = np.where(machine.active, -1, sums.groups)
            self._sums[name] = _Sums(sums.register, sums.values, groups)
            if (groups < 0).all():
                del self._sums[name]
        machine.active = active

    def keep(self, lanes: np.ndarray) -> None:
        """Forgets the threads of blocks that have ended."""
        self._sums = {
            name: _Sums(sums.register, sums.values[lanes], sums.groups[lanes])
            for name, sums in self._sums.items()
        }
