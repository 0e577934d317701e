"""Just-in-time compilation. How the kernels of this package are compiled."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numba
from numba.core import config
from numba.core.sigutils import normalize_signature

from octavo.kernels.cpu.compiling.part_names import distinct_name
from octavo.kernels.numba_setup import host_target, kernel_cache

Function = TypeVar("Function", bound=Callable[..., object])

_declared: list[tuple[Any, str]] = []
_declared_for_teams: list[TeamKernel] = []


# Numba has one target for life, and takes it at its first compilation. What the user set is left alone.
if config.CPU_NAME is None and (_target := host_target()) is not None:
    config.CPU_NAME = _target.level
    if config.CPU_FEATURES is None:
        config.CPU_FEATURES = _target.features


@contextlib.contextmanager
def _our_cache() -> Iterator[None]:
    """Functions that are declared within it have our cache, unless `NUMBA_CACHE_DIR` names the user's;
    the caller's own functions keep theirs."""
    set_by_user = config.CACHE_DIR
    config.CACHE_DIR = set_by_user or kernel_cache() or ""
    try:
        yield
    finally:
        config.CACHE_DIR = set_by_user


def kernel(signature: str) -> Callable[[Function], Function]:
    """Compiles a function of addresses and numbers at its first call, or loads it from numba's cache.

    It releases the interpreter's lock and checks nothing. A call costs a microsecond or two: addresses are
    plain integers (`Tensor.data_ptr()`), so that no array has to be taken apart.

    Args:
        signature: In numba's notation, as a call with Python's numbers has it: int64 and float64.
    """

    def declare(function: Function) -> Function:
        _refuse_closure(function)
        with _our_cache():
            compiled: Function = numba.njit(
                function, nogil=True, cache=True, error_model="numpy", boundscheck=False
            )
        _declared.append((compiled, signature))
        return compiled

    return declare


def part(function: Function) -> Function:
    """A piece of a kernel, compiled into each kernel that uses it.

    Raises:
        ValueError: As `distinct_name`.
    """
    function.__qualname__ = distinct_name(function)
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
        with _our_cache():
            self._compiled = compile_function(
                self._function
            )  # lives as long as its address is used
        address: int = self._compiled.address
        return address


def team_kernel(function: Callable[[int], None]) -> TeamKernel:
    """Declares a kernel that all threads run at once, each with the address of the same numbers."""
    _refuse_closure(function)
    declared = TeamKernel(function)
    _declared_for_teams.append(declared)
    return declared


def _refuse_closure(function: Callable[..., object]) -> None:
    """Numba's cache has a kernel under what it closes over, and would never find one that closes over a part:
    each process has another object there.

    Raises:
        ValueError: The function takes variables of a function around it.
    """
    if names := function.__code__.co_freevars:
        raise ValueError(
            f"The kernel {function.__qualname__} closes over {', '.join(names)}, and would be compiled in "
            "every process; make them the module's."
        )


def compile_all() -> None:
    """Compiles what has been declared so far, and writes numba's cache."""
    for team in _declared_for_teams:
        _ = team.address
    for compiled, signature in _declared:
        # As types: numba keeps what it compiles under what it is given here.
        compiled.compile(normalize_signature(signature)[0])
