"""Picks the kernels of a device, once, when a model is built."""

from __future__ import annotations

import torch

from octavo.kernels import reference
from octavo.kernels.interface import Kernels


def kernels_for(device: torch.device) -> Kernels:
    """The fastest kernels that run on `device`."""
    del device
    return reference
