"""How the kernels of this package are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def kernel(function: Function) -> Function:
    """Compiles a function of addresses and numbers at its first call, or loads it from numba's cache.

    It releases the interpreter's lock and checks nothing. A call costs a microsecond or two: addresses are
    plain integers (`Tensor.data_ptr()`), so that no array has to be taken apart.
    """
    compiled: Function = numba.njit(
        function, nogil=True, cache=True, error_model="numpy", boundscheck=False
    )
    return compiled


def part(function: Function) -> Function:
    """A piece of a kernel, compiled into each kernel that uses it."""
    compiled: Function = numba.njit(function, error_model="numpy", boundscheck=False)
    return compiled
