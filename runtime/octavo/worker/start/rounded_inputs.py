"""Rounded inputs: whether a start rounds activations to FP8, where the checkpoint says that they are."""

from __future__ import annotations

import logging

import torch

from octavo.config import EngineConfig
from octavo.quantization import StoredFormat

logger = logging.getLogger(__name__)


def wants_rounded_inputs(
    config: EngineConfig, device: torch.device, stored: StoredFormat | None
) -> bool:
    """Whether the user takes it, and the GPU multiplies FP8."""
    if stored is None or not config.quantize_activations or device.type != "cuda":
        return False
    # Needs triton, which is not on every platform.
    from octavo.kernels.gpu.scaled.support import multiplies_float8

    return multiplies_float8(device)


def rounds_inputs(config: EngineConfig, device: torch.device, stored: StoredFormat | None) -> bool:
    """As `wants_rounded_inputs`, once a product was multiplied there: where it fails or is wrong the log says
    so, and activations stay as they are."""
    if not wants_rounded_inputs(config, device, stored):
        return False
    from octavo.kernels.gpu.scaled.support import float8_fault

    fault = float8_fault(device)
    if fault is None:
        return True
    logger.warning(
        "Activations keep their dtype, because torch %s does not multiply FP8 on this GPU: %s. Weights are "
        "read in FP8 all the same; --no-quantize-activations says nothing of it.",
        torch.__version__,
        fault,
    )
    return False
