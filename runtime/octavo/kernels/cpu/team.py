"""Runs a kernel on all of torch's threads at once.

Torch's own OpenMP team is used, so that no second pool competes with it for the cores. Where torch has
another OpenMP than GNU's, a kernel runs on the calling thread alone.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from typing import Any

import torch  # noqa: F401 (brings the library that is looked for)

_Start = Callable[[int, Any], None]


def run_on_team(kernel: int, job: Any) -> None:
    """Calls the function at the address `kernel` on every thread with the address of `job`, and waits.

    Args:
        job: A ctypes array.
    """
    _starter()(kernel, job)


@functools.cache
def _starter() -> _Start:
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
