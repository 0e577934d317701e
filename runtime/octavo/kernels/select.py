"""Selection of kernels. Picks the kernels of a device, once, when a model is built."""

from __future__ import annotations

import functools
import importlib.util

import torch

from octavo.kernels import reference
from octavo.kernels.protocols.layers import Kernels
from octavo.kernels.protocols.long_rows import LongRows
from octavo.kernels.protocols.random_bits import RandomBits


def kernels_for(device: torch.device) -> Kernels:
    """The fastest kernels for layers that run on `device`."""
    if device.type == "cuda":
        from octavo.kernels.gpu import device as gpu  # triton is not there on every platform

        return gpu
    if not has_cpu_kernels():
        return reference
    from octavo.kernels import cpu  # numba is not there on every platform

    return cpu


def host_random_bits() -> RandomBits:
    """Where a draw in the host's memory takes its random numbers from."""
    if not has_cpu_kernels():
        from octavo.kernels.reference.sampling import random_bits

        return random_bits
    from octavo.kernels.cpu.sampling import random_bits as compiled  # needs numba

    return compiled


def host_long_rows() -> LongRows | None:
    """What passes over a large vocabulary on all threads; None where there is nothing compiled."""
    if not has_cpu_kernels():
        return None
    from octavo.kernels.cpu.sampling import long_rows  # needs numba

    return long_rows


@functools.cache
def has_cpu_kernels() -> bool:
    """Whether `kernels.cpu` can be imported."""
    return importlib.util.find_spec("numba") is not None
