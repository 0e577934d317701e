"""Machine that runs thread blocks of a PTX program in numpy: one array per register, one element per thread.

Several blocks run side by side. Threads that stand at the earliest basic block go first, so that those which
a branch has parted meet again where it ends (as a GPU's compiler arranges for); a barrier lets a block's
threads go on when all have come. Nothing here knows an instruction beyond branches and barriers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .asynchronous import AsynchronousCopies, WarpgroupProducts
from .memory import GlobalMemory, SharedMemory
from .program import (
    SHARED_WINDOW,
    Address,
    Constant,
    Instruction,
    Operand,
    Program,
    Register,
    Special,
    Vector,
)
from .races import NEXT_EPOCH, thread_code

WARP = 32
Step = Callable[["Machine"], None]
_RAW = {
    1: np.dtype(np.bool_),
    8: np.dtype("u1"),
    16: np.dtype("u2"),
    32: np.dtype("u4"),
    64: np.dtype("u8"),
}
_POISON = {bits: np.array(1 if bits == 1 else 2**bits - 1, dtype) for bits, dtype in _RAW.items()}


class ExecutionFault(Exception):  # noqa: N818 (what a GPU calls it)
    """What leaves a GPU's result undefined or hangs it."""


@dataclass(frozen=True, slots=True)
class BasicBlock:
    """Runs from top to bottom; `end` says where its threads go, None: to the next one."""

    steps: tuple[tuple[Step, Instruction], ...]
    end: Instruction | None


@dataclass(frozen=True, slots=True)
class Code:
    """A program whose instructions have been decoded; `entries` gives the block that a label begins."""

    program: Program
    blocks: tuple[BasicBlock, ...]
    entries: dict[str, int]


def decode(program: Program, meaning: Callable[[Instruction], Step]) -> Code:
    """Cuts a program into blocks and asks `meaning` for what each instruction does."""
    targets = {instruction.target for instruction in program.instructions}
    starts = {index for label, index in program.labels.items() if label in targets}
    blocks: list[BasicBlock] = []
    begun: dict[int, int] = {0: 0}
    steps: list[tuple[Step, Instruction]] = []
    for index, instruction in enumerate(program.instructions):
        if index in starts:
            if steps:
                blocks.append(BasicBlock(tuple(steps), None))
                steps = []
            begun[index] = len(blocks)
        if instruction.opcode in ("bra", "ret", "exit") or _is_barrier(instruction):
            blocks.append(BasicBlock(tuple(steps), instruction))
            steps = []
        else:
            steps.append((meaning(instruction), instruction))
    if steps:
        raise ValueError(f"{program.name} does not end in a return")
    entries = {
        label: begun.get(index, len(blocks))
        for label, index in program.labels.items()
        if index in starts
    }
    return Code(program, tuple(blocks), entries)


def _is_barrier(instruction: Instruction) -> bool:
    return instruction.opcode in ("bar", "barrier") and "warp" not in instruction.modifiers


class Machine:
    """Thread blocks under way.

    Args:
        blocks: `[blocks, 3]`, their coordinates in the grid.
        arguments: The bits of each parameter.
    """

    def __init__(
        self,
        code: Code,
        blocks: np.ndarray,
        grid: Sequence[int],
        arguments: dict[str, int],
        memory: GlobalMemory,
        shared_bytes: int,
    ) -> None:
        program = code.program
        threads = np.arange(program.num_threads, dtype=np.uint32)
        count = len(blocks)
        self.memory = memory
        self.arguments = arguments
        self.num_threads = program.num_threads
        self.shared = SharedMemory(count, shared_bytes, SHARED_WINDOW)
        self.copies = AsynchronousCopies(self.shared, count)
        self.products = WarpgroupProducts(self.shared, count)
        self.active: np.ndarray | None = None
        self.slot = np.repeat(np.arange(count), program.num_threads)
        self.warps = np.tile(threads.astype(np.int64) // WARP, count)
        index = np.ravel_multi_index(tuple(blocks.T), tuple(grid))
        self.threads = thread_code(np.repeat(index, program.num_threads), np.int64(0), self.warps)
        self.registers: dict[str, np.ndarray] = {}
        self._code = code
        self._specials = {
            "%tid.x": np.tile(threads, count),
            "%laneid": np.tile(threads % WARP, count),
            **{
                f"%ctaid.{axis}": np.repeat(blocks[:, index].astype(np.uint32), program.num_threads)
                for index, axis in enumerate("xyz")
            },
            **{
                f"%nctaid.{axis}": np.array(size, np.uint32)
                for axis, size in zip("xyz", grid, strict=True)
            },
            "%ntid.x": np.array(program.num_threads, np.uint32),
            **{f"%{name}.{axis}": np.array(0, np.uint32) for name in ("tid",) for axis in "yz"},
        }
        lanes = count * program.num_threads
        self._place = np.zeros(lanes, np.int32)
        self._is_done = np.zeros(lanes, np.bool_)
        self._waits = np.zeros(lanes, np.bool_)

    @property
    def num_lanes(self) -> int:
        return len(self.slot)

    def run(self) -> None:
        """Until every thread has returned.

        Raises:
            ExecutionFault: A barrier that some threads never reach.
            AccessFault: See `memory.py`.
        """
        with np.errstate(all="ignore"):
            while self.num_lanes:
                self._run_block()
                self._let_go()

    def _run_block(self) -> None:
        ready = ~(self._is_done | self._waits)
        if not ready.any():
            raise ExecutionFault(
                f"threads wait at a barrier that others never reach: {self._where()}"
            )
        place = int(self._place[ready].min())
        here = ready & (self._place == place)
        self.active = None if here.all() else here
        block = self._code.blocks[place]
        for step, instruction in block.steps:
            try:
                step(self)
            except Exception as error:
                error.add_note(
                    f"at line {instruction.line} of {self._code.program.name}: {instruction.text}"
                )
                raise
        self._place[here] = place + 1
        if block.end is not None:
            self._leave(block.end, here)

    def _leave(self, end: Instruction, here: np.ndarray) -> None:
        if end.opcode == "bra":
            assert end.target is not None
            taken = here if end.guard is None else here & self.predicate(end.guard)
            self._place[taken] = self._code.entries[end.target]
            return
        if end.guard is not None:
            raise NotImplementedError(end.text)
        if end.opcode in ("ret", "exit"):
            self._is_done |= here
            return
        if end.operands != (Constant(0),):
            raise NotImplementedError(end.text)
        self._waits |= here

    def _let_go(self) -> None:
        """Opens the barriers to which all have come, and forgets the blocks whose threads have returned."""
        waits = self._waits.reshape(-1, self.num_threads)
        done = self._is_done.reshape(-1, self.num_threads)
        complete = waits.all(1)
        if complete.any():
            places = self._place.reshape(-1, self.num_threads)[complete]
            if (places != places[:, :1]).any():
                raise ExecutionFault(
                    f"threads of a block wait at different barriers: {self._where()}"
                )
            self.shared.pass_barrier(self.slot[:: self.num_threads][complete])
            self.threads.reshape(-1, self.num_threads)[complete] += NEXT_EPOCH
            waits[complete] = False
        finished = done.all(1)
        if finished.any():
            self._keep(np.repeat(~finished, self.num_threads))

    def _keep(self, lanes: np.ndarray) -> None:
        self.registers = {name: values[lanes] for name, values in self.registers.items()}
        self._specials = {
            name: values[lanes] if values.ndim else values
            for name, values in self._specials.items()
        }
        self.slot, self._place = self.slot[lanes], self._place[lanes]
        self.warps, self.threads = self.warps[lanes], self.threads[lanes]
        self._is_done, self._waits = self._is_done[lanes], self._waits[lanes]
        self.products.keep(lanes)

    def _where(self) -> dict[str, int]:
        """How many threads stand before which line."""
        found: dict[str, int] = {}
        for place in self._place[~self._is_done]:
            end = self._code.blocks[place - 1].end if place else None
            text = f"line {end.line}: {end.text}" if end else "a label"
            found[text] = found.get(text, 0) + 1
        return found

    def predicate(self, register: Register) -> np.ndarray:
        values = self._raw(register)
        return ~values if register.negated else values

    def _raw(self, register: Register) -> np.ndarray:
        values = self.registers.get(register.name)
        if values is None:
            values = np.broadcast_to(_POISON[register.bits], (self.num_lanes,))
        return values

    def read(self, operand: Operand | None, dtype: np.dtype) -> np.ndarray:
        """`[threads]`, or `[1]` of a constant; a wider register gives its lower bits."""
        if isinstance(operand, Register):
            values = self._raw(operand)
            if operand.bits == 1:
                return ~values if operand.negated else values
            if values.dtype.itemsize < dtype.itemsize:
                raise ValueError(f"{operand.name} has too few bits for {dtype}")
            if values.dtype.itemsize > dtype.itemsize:
                values = values.astype(_RAW[8 * dtype.itemsize])
            return values.view(dtype)
        if isinstance(operand, Constant):
            return operand.of(dtype)
        if isinstance(operand, Special):
            return np.atleast_1d(self._specials[operand.name]).view(dtype)
        if isinstance(operand, Vector):
            raw = _RAW[8 * dtype.itemsize // len(operand.parts)]
            parts = [
                np.broadcast_to(self.read(part, raw), (self.num_lanes,)) for part in operand.parts
            ]
            return np.stack(parts, -1).view(dtype)[:, 0]
        raise NotImplementedError(operand)

    def write(self, target: Operand | None, values: np.ndarray) -> None:
        """For the active threads; widens by the sign of the values' type."""
        if target is None:
            return
        if isinstance(target, Vector):
            parts = np.ascontiguousarray(np.broadcast_to(values, (self.num_lanes,)))
            raw = _RAW[8 * values.dtype.itemsize // len(target.parts)]
            for index, part in enumerate(target.parts):
                self.write(part, parts.view(raw).reshape(self.num_lanes, -1)[:, index])
            return
        if not isinstance(target, Register):
            raise NotImplementedError(target)
        raw = _RAW[target.bits]
        if values.dtype.itemsize != raw.itemsize:
            values = values.astype(raw)
        values = values.view(raw)
        if self.active is not None:
            values = np.where(self.active, values, self._raw(target))
        elif values.shape != (self.num_lanes,):
            values = np.broadcast_to(values, (self.num_lanes,))
        self.registers[target.name] = values

    def addresses(self, address: Operand | None, dtype: np.dtype) -> np.ndarray:
        """`[active threads]`."""
        assert isinstance(address, Address)
        assert not isinstance(address.base, str)
        base = self.read(address.base, dtype).astype(np.int64) + address.offset
        return self.of_active(base)

    def of_active(self, values: np.ndarray) -> np.ndarray:
        """`[active threads]` of one value for each thread."""
        values = np.broadcast_to(values, (self.num_lanes,))
        return values if self.active is None else values[self.active]

    def to_all(self, values: np.ndarray) -> np.ndarray:
        """`[threads]` from those of the active ones."""
        if self.active is None:
            return values
        spread = np.zeros(self.num_lanes, values.dtype)
        spread[self.active] = values
        return spread

    def whole_warps(self) -> np.ndarray:
        """`[warps]`: which ones are active.

        Raises:
            ExecutionFault: A warp of which only some threads are here.
        """
        if self.active is None:
            return np.ones(self.num_lanes // WARP, np.bool_)
        warps = self.active.reshape(-1, WARP)
        if (warps.any(1) != warps.all(1)).any():
            raise ExecutionFault("not all threads of a warp reach an instruction of the whole warp")
        return warps.all(1)

    def whole_blocks(self) -> np.ndarray:
        """The slots of the blocks whose threads are active; raises where only some threads of one are."""
        if self.active is None:
            return self.slot[:: self.num_threads]
        blocks = self.active.reshape(-1, self.num_threads)
        if (blocks.any(1) != blocks.all(1)).any():
            raise ExecutionFault(
                "not all threads of a block reach an instruction of the whole block"
            )
        return self.slot[:: self.num_threads][blocks.all(1)]


def guarded(step: Step, guard: Register | None) -> Step:
    """The step for the threads whose predicate holds."""
    if guard is None:
        return step

    def run(machine: Machine) -> None:
        before = machine.active
        chosen = machine.predicate(guard)
        if before is not None:
            chosen = chosen & before
        if chosen.all():
            step(machine)
        elif chosen.any():
            machine.active = chosen
            try:
                step(machine)
            finally:
                machine.active = before

    return run
