"""Launches on CPU tensors: Triton compiles for a GPU, and the PTX that it would hand over is run here.

Triton's own launch code chooses what a kernel is specialised on and passes the arguments, as on a GPU; only
the driver under it is exchanged. The machine's assembler is left out: what it would translate is run itself.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from triton import knobs
from triton.runtime.driver import driver

from octavo.kernels.gpu.compiling.forms import AbsentDriver, active_driver
from octavo.kernels.gpu.tuning import chips

from .access import access_step
from .arithmetic import elementwise
from .machine import Code, Machine, Step, decode, guarded
from .memory import GlobalMemory
from .program import Instruction, Program, parse
from .tensor_cores import product_step
from .warp import warp_step
from .warpgroup import warpgroup_step

_LANES_AT_ONCE = 4096
_EDITS = itertools.count()
_MAKERS = (elementwise, access_step, warp_step, product_step, warpgroup_step)


def meaning(instruction: Instruction) -> Step:
    """Raises NotImplementedError for an instruction that nobody knows."""
    for maker in _MAKERS:
        step = maker(instruction)
        if step is not None:
            return guarded(step, instruction.guard)
    raise NotImplementedError(f"line {instruction.line}: {instruction.text}")


@dataclass
class Launches:
    """What has been run: of each kernel how often, and every instruction that it consists of."""

    kernels: dict[str, int] = field(default_factory=dict)
    instructions: set[str] = field(default_factory=set)

    def add(self, program: Program) -> None:
        self.kernels[program.name] = self.kernels.get(program.name, 0) + 1
        self.instructions |= {".".join((i.opcode, *i.modifiers)) for i in program.instructions}


@contextmanager
def emulated_launches(
    capability: int, *, seed: int = 0, edit: Callable[[str], str] | None = None
) -> Iterator[Launches]:
    """Until it ends, launches compile for a GPU of this compute capability and run on CPU tensors.

    Args:
        seed: Of the order in which a grid's programs run.
        edit: Changes the PTX before it is run.

    Raises, at a launch:
        AccessFault, ExecutionFault: What a GPU would fault on or hang at, or leaves undefined.
        NotImplementedError: The kernel has an instruction that the emulator lacks.
    """
    launches = Launches()
    emulated = _Driver(capability, launches, np.random.default_rng(seed), edit)
    default = chips._DEFAULT_CAPABILITY
    chips._DEFAULT_CAPABILITY = capability  # of tensors that are on no GPU
    try:
        with active_driver(emulated), knobs.runtime.scope():
            knobs.runtime.add_stages_inspection_hook = _keep_ptx
            yield launches
    finally:
        chips._DEFAULT_CAPABILITY = default


def _keep_ptx(*compiler: Any) -> tuple[str, str]:
    """In place of machine code a binary holds the PTX; what is returned is part of its key in the cache."""
    if compiler:
        stages = compiler[1]
        stages["cubin"] = lambda source, metadata: source.encode()
    return "ptx alone", "ptx alone"


class _Driver(AbsentDriver):
    """A driver that runs what it is given to launch."""

    def __init__(
        self,
        capability: int,
        launches: Launches,
        draw: np.random.Generator,
        edit: Callable[[str], str] | None,
    ) -> None:
        super().__init__(capability, f"emulated-{next(_EDITS)}" if edit else "emulated")
        self._edit = edit
        self.utils = self
        self.launches = launches
        self.draw = draw

    def get_device_properties(self, device: str) -> dict[str, int]:
        del device
        return {"max_shared_mem": chips.max_shared_bytes(self.get_current_target().arch)}

    def load_binary(
        self, name: str, binary: bytes, shared_bytes: int, device: str
    ) -> tuple[None, Code, int, int, int]:
        """Module, function, registers, spills, threads at most; without a module Triton asks each time."""
        del name, shared_bytes, device
        text = binary.decode()
        return None, _code_of(text if self._edit is None else self._edit(text)), 0, 0, 1024

    def unload_module(self, module: None) -> None:
        """Nothing is held."""

    def launcher_cls(self, source: Any, metadata: Any) -> _Launcher:
        return _Launcher(list(source.signature.items()), metadata.shared)


@lru_cache(maxsize=64)
def _code_of(text: str) -> Code:
    return decode(parse(text), meaning)


@dataclass(frozen=True, slots=True)
class _Launcher:
    """Runs one compiled kernel.

    Args:
        signature: Name and Triton's type of each argument; `constexpr` ones are not the kernel's.
    """

    signature: list[tuple[str, str]]
    shared_bytes: int

    def __call__(self, x: int, y: int, z: int, stream: int, code: Code, *rest: Any) -> None:
        del stream
        values = rest[4:]
        active = driver.active
        active.launches.add(code.program)
        run_grid(code, (x, y, z), self._named(values), self.shared_bytes, active.draw)

    def _named(self, values: tuple[object, ...]) -> list[tuple[str, str, object]]:
        return [
            (name, kind, value)
            for (name, kind), value in zip(self.signature, values, strict=True)
            if kind != "constexpr"
        ]


def run_grid(
    code: Code,
    grid: tuple[int, int, int],
    arguments: list[tuple[str, str, object]],
    shared_bytes: int,
    draw: np.random.Generator,
) -> None:
    """All programs of a grid, some at a time, in an order that is drawn.

    Args:
        arguments: Name, Triton's type and value, in the order of the kernel's parameters.
    """
    tensors = {name: value for name, _, value in arguments if isinstance(value, torch.Tensor)}
    memory = GlobalMemory(tensors)
    bits = [_bits(kind, value, memory) for _, kind, value in arguments]
    names = [name for name, _ in code.program.parameters]
    # Two more parameters point to scratch memory, of which our kernels use none.
    parameters = dict(zip(names, [*bits, *[0] * (len(names) - len(bits))], strict=True))
    blocks = np.stack(np.unravel_index(draw.permutation(int(np.prod(grid))), grid), 1)
    at_once = max(_LANES_AT_ONCE // code.program.num_threads, 1)
    for first in range(0, len(blocks), at_once):
        some = blocks[first : first + at_once]
        Machine(code, some, grid, parameters, memory, shared_bytes).run()
    memory.write_back()


def _bits(kind: str, value: object, memory: GlobalMemory) -> int:
    if isinstance(value, torch.Tensor):
        return memory.address(value)
    if kind.startswith("fp"):
        return int.from_bytes(struct.pack({"fp32": "<f", "fp64": "<d"}[kind], value), "little")
    assert isinstance(value, int)
    return value
