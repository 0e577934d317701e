"""Adapters of a start: where a model's adapters will lie, by what its device's kernels read, and what that
takes."""

from __future__ import annotations

import torch

from octavo.config import EngineConfig
from octavo.kernels.protocols.layers import AdapterKernels, Kernels
from octavo.loading import Placement
from octavo.models.adapters import ModelAdapters
from octavo.models.base import BaseConfig
from octavo.models.host_adapters import HostAdapters
from octavo.models.seated_adapters import SeatedAdapters, seat_bytes


def seats_bytes(config: EngineConfig, model: BaseConfig, dtype: torch.dtype, num_ranks: int) -> int:
    """Of all seats on each rank's GPU, where so many ranks share the model: taken with the weights."""
    if not config.enable_lora:
        return 0
    own = (one.share(0, num_ranks) for one in model.adaptable_projections())
    return config.max_loras * seat_bytes(own, dtype, config.max_lora_rank)


def adapters_of(
    config: EngineConfig, model: BaseConfig, kernels: Kernels, placement: Placement
) -> ModelAdapters | None:
    """For `build_model`; None where the model takes none."""
    if not config.enable_lora:
        return None
    prefix, rank = model.adapter_prefix, config.max_lora_rank
    if isinstance(kernels, AdapterKernels):
        return SeatedAdapters(placement, prefix, rank, num_seats=config.max_loras, kernels=kernels)
    return HostAdapters(placement, prefix, rank)
