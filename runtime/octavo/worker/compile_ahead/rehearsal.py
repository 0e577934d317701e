"""A GPU's start-up without the GPU: every step that it will run, to learn which kernels it will launch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from octavo.config import EngineConfig
from octavo.models.config import DecoderConfig
from octavo.models.decoder import Decoder
from octavo.worker.compile_ahead.absent_gpu import Chip, absent_gpu
from octavo.worker.start.phases import PhaseTimer

if TYPE_CHECKING:
    from octavo.kernels.gpu.compiling.forms import Form
    from octavo.worker.gpu.executor import GpuExecutor


def rehearse(
    config: EngineConfig, shape: DecoderConfig, dtype: torch.dtype, chip: Chip
) -> list[Form]:
    """The forms that `start_gpu_executor` launches on this chip, in the order of its steps.

    Layers that differ in nothing are run twice instead of dozens of times.

    Raises what the start-up raises for a model that has no kernels on such a GPU.
    """
    from octavo.kernels.gpu.compiling.forms import (
        recorded_launches,  # triton: not on every platform
    )

    with recorded_launches(chip.capability) as forms, absent_gpu(chip) as device:
        start_on(device, config, shape, dtype)
    return forms


def start_on(
    device: torch.device, config: EngineConfig, shape: DecoderConfig, dtype: torch.dtype
) -> GpuExecutor:
    """The executor of a model without values, on the device of `absent_gpu`."""
    from octavo.kernels.gpu import device as kernels
    from octavo.worker.gpu.executor import start_gpu_executor

    with torch.inference_mode():
        model = Decoder(distinct_layers(shape), ShapesAlone(dtype, device), kernels)
    phase = PhaseTimer(lambda _: None)
    return start_gpu_executor(config, model, kernels, device=device, dtype=dtype, phase=phase)


def distinct_layers(shape: DecoderConfig) -> DecoderConfig:
    """The same model with the first layer of each sliding window, and with two at least: all but the first
    take in the sum of the one before."""
    windows = list(shape.sliding_windows or [None] * shape.num_layers)
    kept = {windows.index(window) for window in windows} | set(range(min(2, shape.num_layers)))
    return replace(
        shape,
        num_layers=len(kept),
        sliding_windows=tuple(windows[index] for index in sorted(kept))
        if shape.sliding_windows
        else (),
    )


class ShapesAlone:
    """A `WeightSource` of tensors without values."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype = dtype
        self._device = device

    def take(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        del name
        return torch.empty(shape, dtype=self._dtype, device=self._device)

    def finish(self, is_ignored: Callable[[str], bool]) -> None:
        """Nothing can be missing."""
