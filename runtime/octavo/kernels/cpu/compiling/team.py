"""Thread team. Runs a kernel on all of torch's threads at once.

Torch's own OpenMP team is used, so that no second pool competes with it for the cores. Where torch has
another OpenMP than GNU's, a kernel runs on the calling thread alone.
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct
from collections.abc import Callable
from typing import Any

import torch

from octavo.kernels.cpu.compiling.jit import TeamKernel

# What one thread has done in the microseconds that it takes to wake the others and to call this way.
_ALONE_ELEMENTS = 2**15
_PIECES_A_THREAD = 4


def run_on_team(kernel: TeamKernel, *numbers: int, counters: int = 0) -> None:
    """Calls `kernel` on every thread with the address of the same int64s, and waits for all.

    The first of them is a zero, with which the threads count what they take (`vector.count_up`);
    `numbers` follow, and after them as many more zeros as `counters` says.
    """
    job = (ctypes.c_int64 * (1 + len(numbers) + counters))(0, *numbers)
    _starter()(kernel.address, job)


def is_for_team(elements: int) -> bool:
    """Whether a pass over so many elements is long enough to be shared."""
    return elements > _ALONE_ELEMENTS


def run_on_rows(kernel: TeamKernel, rows: int, width: int, *numbers: int) -> None:
    """`run_on_team` for a pass over rows of which each stands for itself.

    The job is the zero, `rows`, how many of them a thread takes at a time, `width`, `numbers`.
    """
    pieces = _PIECES_A_THREAD * torch.get_num_threads()
    run_on_team(kernel, rows, -(-rows // pieces), width, *numbers)


@functools.cache
def float32_bits(value: float) -> int:
    """A float as a number of `run_on_team`; `vector.float32_of` makes it one again."""
    bits: int = struct.unpack("<I", struct.pack("<f", value))[0]
    return bits


@functools.cache
def _starter() -> Callable[[int, Any], None]:
    library = _loaded_openmp()
    if library is None:
        function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
        return lambda kernel, job: function(kernel)(ctypes.addressof(job))
    parallel = library.GOMP_parallel
    parallel.restype = None
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    # Zero threads: as many as torch.set_num_threads said.
    return lambda kernel, job: parallel(kernel, job, 0, 0)


def _loaded_openmp() -> ctypes.CDLL | None:
    """The GNU OpenMP that this process has loaded."""
    if not hasattr(os, "RTLD_NOLOAD"):
        return None
    try:
        return ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    except OSError:
        return None
