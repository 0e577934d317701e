"""Choice of a scheme: which one the user's wish, the checkpoint and the device make, or why there is none,
before weights are read."""

from __future__ import annotations

import torch

from octavo.config import EngineConfig, LoadFormat, Quantization
from octavo.errors import InvalidConfigurationError
from octavo.kernels.protocols.layers import FewRowKernels, Kernels, PackedKernels
from octavo.kernels.select import has_cpu_kernels
from octavo.quantization.packed_forms import PackedForms
from octavo.quantization.panel_forms import PANELS
from octavo.quantization.scheme import Scheme
from octavo.quantization.stored import StoredFormat
from octavo.quantization.stored_scheme import Stored
from octavo.quantization.unquantised import Unquantised
from octavo.quantization.weight_only import WeightOnly

_LEAVE_OUT = "leave --quantization (spec.engine.quantization) out"


def scheme_for(
    quantization: Quantization | None,
    kernels: Kernels,
    stored: StoredFormat | None = None,
    *,
    rounds_inputs: bool = False,
    held_dtype: torch.dtype | None = None,
) -> Scheme:
    """The scheme of what passed `check_quantization`.

    Args:
        kernels: Of the device: those that do more than a product read plain weights, and quantised ones lie
            as they read them.
        stored: In which the checkpoint's weights are quantised; None: they are as they were.
        rounds_inputs: See `PackedForms`.
        held_dtype: See `Unquantised`.
    """
    forms = PackedForms(kernels, rounds_inputs) if isinstance(kernels, PackedKernels) else PANELS
    if stored is not None:
        return Stored(stored, forms)
    if quantization is not None:
        return WeightOnly(quantization, forms)
    is_plain = isinstance(kernels, FewRowKernels)
    return Unquantised(is_plain=is_plain, held_dtype=held_dtype)


def check_quantization(
    config: EngineConfig, device: torch.device, stored: StoredFormat | None
) -> None:
    """Refuses `config.quantization` where nothing would come of it, and quantised checkpoints where they do
    not run.

    Raises `InvalidConfigurationError`.
    """
    wanted = config.quantization
    if wanted is not None:
        _check_agreement(wanted, None if stored is None else stored.method)
    if stored is not None:
        _check_stored(config, device, f"the checkpoint's weights are quantised ({stored.method})")
    elif wanted is not None:
        what = f"quantization is {wanted.value}"
        if device.type == "cpu":
            _check_cpu(config, what, _LEAVE_OUT)


def _check_agreement(wanted: Quantization, method: str | None) -> None:
    if wanted.is_made_at_load and method is not None:
        raise InvalidConfigurationError(
            f"quantization is {wanted.value}, but the checkpoint's weights are quantised already "
            f"(quant_method {method} in config.json). Use the model's 16- or 32-bit checkpoint, or "
            f"{_LEAVE_OUT}."
        )
    if wanted is Quantization.FP8 and method is None:
        return
    if not wanted.is_made_at_load and method != wanted.value:
        found = "are not quantised" if method is None else f"are quantised with {method}"
        raise InvalidConfigurationError(
            f"quantization is {wanted.value}, which reads checkpoints that are quantised so, but by "
            f"config.json this one's weights {found}. Use such a checkpoint, or {_LEAVE_OUT}."
        )


def _check_stored(config: EngineConfig, device: torch.device, what: str) -> None:
    if config.load_format is LoadFormat.DUMMY:
        raise InvalidConfigurationError(
            f"load_format is dummy, but {what}, and random weights are not. Use --load-format auto, or take "
            "quantization_config out of config.json."
        )
    if device.type == "cpu":
        _check_cpu(config, what, "use the model's 16-bit checkpoint")


def _check_cpu(config: EngineConfig, what: str, else_do: str) -> None:
    if config.dtype == "float16":
        raise InvalidConfigurationError(
            f"{what}, but dtype is float16, in which CPUs do not multiply. Use --dtype auto, bfloat16 or "
            "float32."
        )
    if not has_cpu_kernels():
        raise InvalidConfigurationError(
            f"{what}, which needs the package numba. Install it, or {else_do}."
        )
