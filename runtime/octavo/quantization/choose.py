"""Choice of a scheme: which one the user's wish and the device make, or why there is none, before weights are
read."""

from __future__ import annotations

import torch

from octavo.config import EngineConfig, Quantization
from octavo.errors import InvalidConfigurationError
from octavo.kernels.protocols.layers import FewRowKernels, Kernels
from octavo.kernels.select import has_cpu_kernels
from octavo.quantization.scheme import Scheme
from octavo.quantization.unquantised import Unquantised
from octavo.quantization.weight_only import WeightOnly


def scheme_for(quantization: Quantization | None, kernels: Kernels) -> Scheme:
    """The scheme of what passed `check_quantization`.

    Args:
        kernels: Of the device; those that do more than a product read plain weights.
    """
    if quantization is not None:
        return WeightOnly(quantization)
    return Unquantised(is_plain=isinstance(kernels, FewRowKernels))


def check_quantization(
    config: EngineConfig, device: torch.device, checkpoint_method: str | None
) -> None:
    """Refuses `config.quantization` where nothing would come of it.

    Args:
        checkpoint_method: `quant_method` of a checkpoint that is quantised already, or None.

    Raises `InvalidConfigurationError`.
    """
    if config.quantization is None:
        return
    wanted = f"quantization is {config.quantization.value}"
    leave_out = "leave --quantization (spec.engine.quantization) out"
    if device.type != "cpu":
        raise InvalidConfigurationError(
            f"{wanted}, which rounds weights for CPUs, but the engine runs on {device.type}. On a GPU "
            f"{leave_out}; else use --device cpu."
        )
    if checkpoint_method is not None:
        raise InvalidConfigurationError(
            f"{wanted}, but the checkpoint's weights are quantised already (quant_method "
            f"{checkpoint_method} in config.json). Use the model's 16- or 32-bit checkpoint."
        )
    if config.dtype == "float16":
        raise InvalidConfigurationError(
            f"{wanted}, but dtype is float16, in which CPUs do not multiply. Use --dtype auto, bfloat16 "
            "or float32."
        )
    if not has_cpu_kernels():
        raise InvalidConfigurationError(
            f"{wanted}, which needs the package numba. Install it, or {leave_out}."
        )
