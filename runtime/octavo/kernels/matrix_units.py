"""Matrix units of CPUs (AMX): whether this CPU has them, and whether this process may use them.

Linux gives each process their eight kilobytes of registers only when it asks. Torch's libraries ask for
themselves.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import platform
from collections.abc import Callable, Mapping

from octavo.errors import InvalidConfigurationError
from octavo.kernels.numba_setup import cpu_flags

SWITCH = "OCTAVO_AMX"
"""`0`: our kernels leave AMX alone; torch's libraries use it as before."""

_SYS_ARCH_PRCTL = 158  # of x86-64
_ARCH_GET_XCOMP_PERM = 0x1022
_ARCH_REQ_XCOMP_PERM = 0x1023
_XFEATURE_XTILEDATA = 18

_log = logging.getLogger(__name__)


@functools.cache
def has_matrix_units() -> bool:
    """AMX, which torch's libraries use for many rows of bfloat16."""
    return "amx_bf16" in cpu_flags()


@functools.cache
def may_use_matrix_units() -> bool:
    """Whether our kernels may: they are here, `OCTAVO_AMX` leaves them on, and Linux grants them.

    A refusal is logged once.
    """
    if not is_switched_on(os.environ) or not has_matrix_units():
        return False
    if is_granted(_arch_prctl):
        return True
    _log.warning(
        "Linux does not grant this process AMX (arch_prctl ARCH_REQ_XCOMP_PERM), which this CPU has: "
        "torch attends for prompts in bfloat16. %s=0 says so without asking.",
        SWITCH,
    )
    return False


def is_switched_on(environ: Mapping[str, str]) -> bool:
    """What `OCTAVO_AMX` says; unset and empty are 1.

    Raises:
        InvalidConfigurationError: It is neither 0 nor 1.
    """
    value = environ.get(SWITCH) or "1"
    if value not in ("0", "1"):
        raise InvalidConfigurationError(f"{SWITCH} is '{value}'; it takes 1 (the default) or 0.")
    return value == "1"


def is_granted(arch_prctl: Callable[[int, int], int]) -> bool:
    """Asks for the registers and reads what is granted: kernels before 5.16 know neither.

    `arch_prctl(code, argument)` is the system call, -1 where it fails.
    """
    if arch_prctl(_ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA) != 0:
        return False
    granted = ctypes.c_uint64(0)
    if arch_prctl(_ARCH_GET_XCOMP_PERM, ctypes.addressof(granted)) != 0:
        return False
    return bool(granted.value >> _XFEATURE_XTILEDATA & 1)


def _arch_prctl(code: int, argument: int) -> int:
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return -1
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    result: int = syscall(
        ctypes.c_long(_SYS_ARCH_PRCTL), ctypes.c_long(code), ctypes.c_ulong(argument)
    )
    return result
