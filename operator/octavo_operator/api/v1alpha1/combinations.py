"""Combinations of fields that no pod can start with, or of which one does nothing, though each is right by
itself: rules between parts of the spec. What was stored before them is still served, as far as it goes."""

from __future__ import annotations

from typing import Any

from octavo_operator.api.v1alpha1.base import before, cel_between
from octavo_operator.api.v1alpha1.engine import Device, Dtype

_ASKS_FOR_GPUS = "has(self.resources) && has(self.resources.gpu) && self.resources.gpu > 0"
_ON_A_GPU = (
    f"(has(self.engine.device) ? self.engine.device == '{Device.CUDA}' : ({_ASKS_FOR_GPUS}))"
)

_HAS_QUANTISED_HALVES = (
    "has(self.engine) && has(self.engine.quantization) && has(self.engine.dtype) && "
    f"self.engine.dtype == '{Dtype.FLOAT16}'"
)
QUANTISED_HALVES_ARE_FOR_GPUS = cel_between(
    f"!({_HAS_QUANTISED_HALVES}) || {_ON_A_GPU}",
    "must be auto, bfloat16 or float32 with quantization on CPUs, which do not multiply in float16",
    "engine.dtype",
)

RANKS_HAVE_A_GPU_EACH = cel_between(
    "!has(self.engine) || !has(self.engine.tensorParallelSize) || self.engine.tensorParallelSize == 1 || "
    f"!{_ON_A_GPU} || (({_ASKS_FOR_GPUS}) && self.engine.tensorParallelSize <= self.resources.gpu)",
    "must be no more than resources.gpu: each process that shares a model has a GPU of its own",
    "engine.tensorParallelSize",
)

SPECULATION_IS_ON_CPUS = cel_between(
    f"!has(self.engine) || !has(self.engine.speculative) || !{_ON_A_GPU}",
    "is for replicas on CPUs: GPUs run no drafts so far",
    "engine.speculative",
)

ADAPTERS_ARE_ON_CPUS = cel_between(
    f"!has(self.engine) || !has(self.engine.enableLora) || !self.engine.enableLora || !{_ON_A_GPU}",
    "is for replicas on CPUs: GPUs run no adapters so far; merge the adapter into its base model and serve "
    "the result",
    "engine.enableLora",
)

_STATES_BOTH = (
    "has(self.engine) && has(self.engine.kvCacheMemory) && has(self.resources) && "
    "has(self.resources.memory)"
)
CPUS_KEEP_THE_CACHE_IN_MEMORY = cel_between(
    f"!({_STATES_BOTH}) || {_ON_A_GPU} || !isQuantity(self.engine.kvCacheMemory) || "
    "!isQuantity(string(self.resources.memory)) || quantity(self.engine.kvCacheMemory).isLessThan("
    "quantity(string(self.resources.memory)))",
    "must be less than resources.memory, which also holds the weights: on CPUs the KV cache is in it",
    "engine.kvCacheMemory",
    was_broken=f"{before(_STATES_BOTH)} && !{before(_ON_A_GPU)} && "
    "self.engine.kvCacheMemory == oldSelf.value().engine.kvCacheMemory && "
    "self.resources.memory == oldSelf.value().resources.memory",
)

_IS_DOWNLOADED = "(self.model.uri.startsWith('hf://') || self.model.uri.startsWith('s3://'))"
# Where no device is named the runtime takes a GPU that it finds, asked for or not.
_ON_A_CPU = f"(has(self.engine.device) && self.engine.device == '{Device.CPU}')"


def _is_for_gpus(field: str) -> dict[str, Any]:
    return cel_between(
        f"!has(self.engine) || !has(self.engine.{field}) || !{_ON_A_CPU}",
        "has no effect on CPUs, and engine.device is cpu: leave one of them out",
        f"engine.{field}",
    )


NO_DOWNLOAD_NO_RESOURCES = cel_between(
    f"!has(self.resources) || !has(self.resources.download) || {_IS_DOWNLOADED}",
    "is for models that are downloaded: hf:// and s3://",
    "resources.download",
)

COMBINATIONS = (
    QUANTISED_HALVES_ARE_FOR_GPUS,
    RANKS_HAVE_A_GPU_EACH,
    SPECULATION_IS_ON_CPUS,
    ADAPTERS_ARE_ON_CPUS,
    CPUS_KEEP_THE_CACHE_IN_MEMORY,
    *(_is_for_gpus(field) for field in ("gpuMemoryUtilization", "enforceEager")),
    NO_DOWNLOAD_NO_RESOURCES,
)
