"""Program of kernels: many of them one after another in a single start of all threads.

Between two kernels the threads wait for each other where they are, instead of going home to Python and being
woken again: on a small step that is most of what a kernel costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types

from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import TeamKernel, team_kernel
from octavo.kernels.cpu.compiling.team import barrier_address, start

_I64 = ir.IntType(64)
_HEADER = 2


@dataclass(frozen=True, slots=True)
class Job:
    """What `run_on_team` was given: a kernel, and the numbers that it is to find, counters too."""

    kernel: TeamKernel
    numbers: Sequence[int]


class Program:
    """Jobs that were written down once, to be done again and again.

    What their addresses point to is the caller's to keep.
    """

    __slots__ = ("_jobs", "_table", "_template")

    def __init__(self, jobs: Sequence[Job]) -> None:
        sizes = [len(job.numbers) for job in jobs]
        self._template = np.array([n for job in jobs for n in job.numbers], dtype=np.int64)
        self._jobs = self._template.copy()
        starts = self._jobs.ctypes.data + 8 * np.cumsum([0, *sizes])[:-1]
        pairs = zip((job.kernel.address for job in jobs), starts.tolist(), strict=True)
        header = (barrier_address(), len(jobs))
        self._table = np.array([*header, *(n for pair in pairs for n in pair)], dtype=np.int64)

    def run(self) -> None:
        np.copyto(self._jobs, self._template)  # kernels count in them
        start(_run, self._table.ctypes.data)


@v.intrinsic
def _call(typing_context: Any, address: Any, argument: Any) -> Any:
    """Calls the kernel at `address`."""
    del typing_context, address, argument

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        kind = ir.FunctionType(ir.VoidType(), [_I64])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), [arguments[1]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@v.intrinsic
def _wait(typing_context: Any, address: Any) -> Any:
    """Calls the barrier at `address`."""
    del typing_context, address

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        kind = ir.FunctionType(ir.VoidType(), [])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), [])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@team_kernel
def _run(address: int) -> None:
    table = v.int64_at(address)
    barrier, count = table[0], table[1]
    for place in range(count):
        if place > 0 and barrier != 0:
            _wait(barrier)
        at = _HEADER + 2 * place
        _call(table[at], table[at + 1])
