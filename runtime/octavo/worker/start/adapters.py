"""Adapters of a start: where a model's adapters will lie, by what its device's kernels read."""

from __future__ import annotations

from octavo.config import EngineConfig
from octavo.kernels.protocols.layers import AdapterKernels, Kernels
from octavo.loading import Placement
from octavo.models.adapters import ModelAdapters
from octavo.models.base import BaseConfig
from octavo.models.host_adapters import HostAdapters
from octavo.models.seated_adapters import SeatedAdapters


def adapters_of(
    config: EngineConfig, model: BaseConfig, kernels: Kernels, placement: Placement
) -> ModelAdapters | None:
    """For `build_model`; None where the model takes none."""
    if not config.enable_lora:
        return None
    prefix, rank = model.prefix, config.max_lora_rank
    if isinstance(kernels, AdapterKernels):
        return SeatedAdapters(placement, prefix, rank, num_seats=config.max_loras, kernels=kernels)
    return HostAdapters(placement, prefix, rank)
