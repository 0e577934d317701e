"""Selection of kernels. Picks the kernels of a device, once, when a model is built."""

from __future__ import annotations

import functools
import importlib.util

import torch

from octavo.kernels import reference
from octavo.kernels.protocols.layers import Kernels


def kernels_for(device: torch.device) -> Kernels:
    """The fastest kernels for layers that run on `device`."""
    if device.type == "cuda":
        from octavo.kernels.gpu import device as gpu  # triton is not there on every platform

        return gpu
    if not has_cpu_kernels():
        return reference
    from octavo.kernels import cpu  # numba is not there on every platform

    return cpu


@functools.cache
def has_cpu_kernels() -> bool:
    """Whether `kernels.cpu` can be imported."""
    return importlib.util.find_spec("numba") is not None
