"""Rehearsal. A GPU's start-up without the GPU: every step that it will run, to learn which kernels it will
launch."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from octavo.config import EngineConfig
from octavo.kernels.reference.weight_only import Code, QuantizedWeight
from octavo.loading import Placement, Slice, WeightSource
from octavo.models.base import ModelConfig
from octavo.models.building import build_model
from octavo.quantization import StoredFormat, scheme_for
from octavo.quantization.stored import StoredLayout, StoredWeight
from octavo.worker.compile_ahead.absent_gpu import Chip, absent_gpu
from octavo.worker.loaded import Loaded
from octavo.worker.start.adapters import adapters_of
from octavo.worker.start.phases import PhaseTimer
from octavo.worker.start.rounded_inputs import wants_rounded_inputs

if TYPE_CHECKING:
    from octavo.kernels.gpu.compiling.forms import Form
    from octavo.worker.gpu.executor import GpuExecutor


def rehearse(
    config: EngineConfig,
    model: ModelConfig,
    dtype: torch.dtype,
    chip: Chip,
    stored: StoredFormat | None = None,
) -> list[Form]:
    """The forms that `start_gpu_executor` launches on this chip, in the order of its steps.

    Layers that differ in nothing are run twice instead of dozens of times.

    Args:
        stored: Format of the checkpoint's weights, as in `scheme_for`.

    Raises what the start-up raises for a model that has no kernels on such a GPU.
    """
    from octavo.kernels.gpu.compiling.forms import (
        recorded_launches,  # triton: not on every platform
    )

    with recorded_launches(chip.capability) as forms, absent_gpu(chip) as device:
        start_on(device, config, model, dtype, stored)
    return forms


def start_on(
    device: torch.device,
    config: EngineConfig,
    model: ModelConfig,
    dtype: torch.dtype,
    stored: StoredFormat | None = None,
) -> GpuExecutor:
    """The executor of a model without values, on the device of `absent_gpu`."""
    from octavo.kernels.gpu import device as kernels
    from octavo.worker.gpu.drafter import GpuDrafting
    from octavo.worker.gpu.executor import start_gpu_executor

    placement = Placement(dtype, device)
    ranks = FirstOf(config.tensor_parallel_size)
    layouts = None if stored is None else LayoutsAlone(stored, placement)
    adapters = adapters_of(config, model, kernels, placement)
    with torch.inference_mode():
        built = build_model(
            distinct_layers(model),
            ShapesAlone(placement),
            scheme=scheme_for(
                config.quantization,
                kernels,
                layouts,
                rounds_inputs=wants_rounded_inputs(config, device, stored),
            ),
            kernels=kernels,
            placement=placement,
            ranks=ranks,
            adapters=adapters,
        )
    loaded: Loaded[GpuDrafting] = Loaded(built)
    phase = PhaseTimer(lambda _: None)
    return start_gpu_executor(
        config,
        loaded,
        kernels,
        device=device,
        dtype=dtype,
        phase=phase,
        reload=lambda: loaded,
        ranks=ranks,
        adapters=adapters,
    )


def distinct_layers(model: ModelConfig) -> ModelConfig:
    """The same model with the first layer of each kind, and with two at least: all but the first take in the
    sum of the one before."""
    kinds = model.layer_kinds
    few = set(range(min(2, len(kinds))))
    return model.with_layers(sorted({kinds.index(kind) for kind in kinds} | few))


@dataclass(frozen=True, slots=True)
class FirstOf:
    """The first of so many `Ranks`, whose others are not there: shapes are right."""

    size: int
    rank: int = 0

    def all_reduce(self, partial: torch.Tensor) -> torch.Tensor:
        return partial

    def gather(self, part: torch.Tensor) -> list[torch.Tensor] | None:
        return [part] * self.size

    def from_first(self, values: torch.Tensor) -> None:
        pass


class ShapesAlone:
    """A `WeightSource` of tensors without values."""

    def __init__(self, placement: Placement) -> None:
        self._placement = placement

    def names(self) -> Collection[str]:
        return ()

    def has(self, name: str) -> bool:
        return False

    def shape(self, name: str) -> tuple[int, ...] | None:
        return None

    def tensors(
        self, shapes: Mapping[str, tuple[int, ...]], part: Slice | None = None
    ) -> list[torch.Tensor]:
        return [self._placement.empty(*_shape(shape, part)) for shape in shapes.values()]

    def note(self, problem: str) -> None:
        raise RuntimeError(f"Tensors without values are wrong: {problem}.")

    def finish(self, is_ignored: Callable[[str], bool]) -> None:
        """Nothing can be missing."""


def _shape(whole: tuple[int, ...], part: Slice | None) -> tuple[int, ...]:
    if part is None:
        return whole
    return (*whole[: part.dim], part.stop - part.start, *whole[part.dim + 1 :])


_DTYPES = {Code.FLOAT8: torch.float8_e4m3fn, Code.MXFP4: torch.uint8}


class LayoutsAlone:
    """A `StoredFormat` whose weights have no values: they are as config.json tells them."""

    def __init__(self, stored: StoredFormat, placement: Placement) -> None:
        self._stored = stored
        self._placement = placement
        self._orders: dict[int, torch.Tensor] = {}
        self._input_scale = torch.empty(1, device=placement.device)

    @property
    def method(self) -> str:
        return self._stored.method

    def layout(self, name: str, depth: int) -> StoredLayout | None:
        return self._stored.layout(name, depth)

    def read(self, name: str, width: int, depth: int, source: WeightSource) -> StoredWeight | None:
        layout = self.layout(name, depth)
        if layout is None:
            return None
        group = math.gcd(layout.group or depth, depth)
        dtype = _DTYPES.get(layout.code, torch.int8)
        groups, device = (width, depth // group), self._placement.device
        weight = QuantizedWeight(
            torch.empty(width, depth, dtype=dtype, device=device),
            torch.empty(groups, device=device),
            torch.empty(groups, dtype=torch.int8, device=device) if layout.has_zeros else None,
        )
        inputs = layout.inputs
        has_scale = inputs is not None and inputs.is_static
        return StoredWeight(
            layout.code,
            weight,
            self._order(depth) if layout.is_reordered else None,
            inputs=inputs,
            input_scale=self._input_scale if has_scale else None,
        )

    def sizes(self, name: str, source: WeightSource) -> tuple[int, int] | None:
        return None

    def _order(self, depth: int) -> torch.Tensor:
        """Parts of one input are mostly ordered alike."""
        if depth not in self._orders:
            self._orders[depth] = torch.empty(
                depth, dtype=torch.int64, device=self._placement.device
            )
        return self._orders[depth]
