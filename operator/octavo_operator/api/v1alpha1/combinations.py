"""Combinations of fields that no pod can start with, or of which one does nothing, though each is right by
itself: rules between parts of the spec. What was stored before them is still served, as far as it goes."""

from __future__ import annotations

from typing import Any

from octavo_operator.api.v1alpha1.base import cel, cel_for_new
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

_IS_DOWNLOADED = "(self.model.uri.startsWith('hf://') || self.model.uri.startsWith('s3://'))"
# Where no device is named the runtime takes a GPU that it finds, asked for or not.
_ON_A_CPU = f"(has(self.engine.device) && self.engine.device == '{Device.CPU}')"


def _is_for_gpus(field: str) -> dict[str, Any]:
    return cel_for_new(
        f"!has(self.engine) || !has(self.engine.{field}) || !{_ON_A_CPU}",
        "has no effect on CPUs, and engine.device is cpu: leave one of them out",
        f"engine.{field}",
    )


NO_DOWNLOAD_NO_RESOURCES = cel_for_new(
    f"!has(self.resources) || !has(self.resources.download) || {_IS_DOWNLOADED}",
    "is for models that are downloaded: hf:// and s3://",
    "resources.download",
)

COMBINATIONS = (
    ROUNDING_IS_FOR_CPUS,
    CPUS_KEEP_THE_CACHE_IN_MEMORY,
    *(_is_for_gpus(field) for field in ("gpuMemoryUtilization", "enforceEager")),
    NO_DOWNLOAD_NO_RESOURCES,
)
