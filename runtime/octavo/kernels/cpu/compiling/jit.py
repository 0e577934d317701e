"""How the kernels of this package are compiled."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba.core.sigutils import normalize_signature

Function = TypeVar("Function", bound=Callable[..., object])

_declared: list[tuple[Any, str]] = []
_declared_for_teams: list[TeamKernel] = []


def kernel(signature: str) -> Callable[[Function], Function]:
    """Compiles a function of addresses and numbers at its first call, or loads it from numba's cache.

    It releases the interpreter's lock and checks nothing. A call costs a microsecond or two: addresses are
    plain integers (`Tensor.data_ptr()`), so that no array has to be taken apart.

    Args:
        signature: In numba's notation, as a call with Python's numbers has it: int64 and float64.
    """

    def declare(function: Function) -> Function:
        compiled: Function = numba.njit(
            function, nogil=True, cache=True, error_model="numpy", boundscheck=False
        )
        _declared.append((compiled, signature))
        return compiled

    return declare


def part(function: Function) -> Function:
    """A piece of a kernel, compiled into each kernel that uses it."""
    compiled: Function = numba.njit(function, error_model="numpy", boundscheck=False)
    return compiled


class TeamKernel:
    """A function of one address for `team.run_on_team`, compiled or loaded when its own is asked for."""

    def __init__(self, function: Callable[[int], None]) -> None:
        self._function = function

    @functools.cached_property
    def address(self) -> int:
        compile_function = numba.cfunc(
            "void(int64)", cache=True, error_model="numpy", boundscheck=False
        )
        self._compiled = compile_function(self._function)  # lives as long as its address is used
        address: int = self._compiled.address
        return address


def team_kernel(function: Callable[[int], None]) -> TeamKernel:
    """Declares a kernel that all threads run at once, each with the address of the same numbers."""
    declared = TeamKernel(function)
    _declared_for_teams.append(declared)
    return declared


def compile_all() -> None:
    """Compiles what has been declared so far, and writes numba's cache."""
    for team in _declared_for_teams:
        _ = team.address
    for compiled, signature in _declared:
        # As types: numba keeps what it compiles under what it is given here.
        compiled.compile(normalize_signature(signature)[0])
