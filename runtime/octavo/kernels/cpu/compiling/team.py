"""Thread team. Runs a kernel on all of torch's threads at once.

Torch's own OpenMP team is used, so that no second pool competes with it for the cores. Where torch has
another OpenMP than GNU's, a kernel runs on the calling thread alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import struct
import threading
from collections.abc import Callable, Iterator

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
    if (listener := _here.listener) is not None:
        listener(kernel, job[:])
    start(kernel, ctypes.addressof(job))


def start(kernel: TeamKernel, address: int) -> None:
    """Calls `kernel(address)` on every thread, and waits for all."""
    _starter()(kernel.address, address)


Listener = Callable[[TeamKernel, list[int]], None]
"""Gets a kernel and the numbers that it is called with."""


class _Here(threading.local):
    listener: Listener | None = None


_here = _Here()


@contextlib.contextmanager
def told(listener: Listener) -> Iterator[None]:
    """Within it `listener` is told of each call of `run_on_team` by this Python thread, and no work is so
    short that it is done otherwise."""
    _here.listener = listener
    try:
        yield
    finally:
        _here.listener = None


def is_for_team(elements: int) -> bool:
    """Whether a pass over so many elements is long enough to be shared."""
    return elements > _ALONE_ELEMENTS or _here.listener is not None


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


def barrier_address() -> int:
    """Of what a kernel's threads call to wait for each other; 0: a kernel has one thread."""
    library = _loaded_openmp()
    if library is None:
        return 0
    address: int | None = ctypes.cast(library.GOMP_barrier, ctypes.c_void_p).value
    return address or 0


@functools.cache
def _starter() -> Callable[[int, int], None]:
    library = _loaded_openmp()
    if library is None:
        function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
        return lambda kernel, address: function(kernel)(address)
    parallel = library.GOMP_parallel
    parallel.restype = None
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    # Zero threads: as many as torch.set_num_threads said.
    return lambda kernel, address: parallel(kernel, address, 0, 0)


@functools.cache
def _loaded_openmp() -> ctypes.CDLL | None:
    """The GNU OpenMP that this process has loaded."""
    if not hasattr(os, "RTLD_NOLOAD"):
        return None
    try:
        return ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    except OSError:
        return None
