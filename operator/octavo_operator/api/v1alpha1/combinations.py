"""Combinations of fields that no pod can start with, though each is right by itself: rules between parts of
the spec. What was stored before them is still served, as far as it goes."""

from __future__ import annotations

from octavo_operator.api.v1alpha1.base import cel
from octavo_operator.api.v1alpha1.engine import Device

_ASKS_FOR_GPUS = "has(self.resources) && has(self.resources.gpu) && self.resources.gpu > 0"
_ON_A_GPU = (
    f"(has(self.engine.device) ? self.engine.device == '{Device.CUDA}' : ({_ASKS_FOR_GPUS}))"
)

ROUNDING_IS_FOR_CPUS = cel(
    f"!has(self.engine) || !has(self.engine.quantization) || !{_ON_A_GPU}",
    "rounds weights for CPUs: leave it out for replicas on GPUs, or set engine.device to cpu",
    "engine.quantization",
)

CPUS_KEEP_THE_CACHE_IN_MEMORY = cel(
    f"!has(self.engine) || !has(self.engine.kvCacheMemory) || {_ON_A_GPU} || !has(self.resources) || "
    "!has(self.resources.memory) || !isQuantity(self.engine.kvCacheMemory) || "
    "!isQuantity(string(self.resources.memory)) || quantity(self.engine.kvCacheMemory).isLessThan("
    "quantity(string(self.resources.memory)))",
    "must be less than resources.memory, which also holds the weights: on CPUs the KV cache is in it",
    "engine.kvCacheMemory",
)

COMBINATIONS = (ROUNDING_IS_FOR_CPUS, CPUS_KEEP_THE_CACHE_IN_MEMORY)
