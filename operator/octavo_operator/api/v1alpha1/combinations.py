"""Combinations of fields that no pod can start with, or of which one does nothing, though each is right by
itself: rules between parts of the spec. What was stored before them is still served, as far as it goes."""

from __future__ import annotations

from typing import Any

from octavo_operator.api.v1alpha1.base import before, cel_between
from octavo_operator.api.v1alpha1.engine import Device, Dtype, ModelImplementation
from octavo_operator.api.v1alpha1.source import is_downloaded
from octavo_operator.api.v1alpha1.speculative import SpeculativeMethod

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

_RANKS_SHARE = (
    "(has(self.engine.tensorParallelSize) ? self.engine.tensorParallelSize > 1 : "
    f"(({_ASKS_FOR_GPUS}) && self.resources.gpu > 1 && {_ON_A_GPU}))"
)
_TAKES_ADAPTERS = "has(self.engine) && has(self.engine.enableLora) && self.engine.enableLora"
_IS_TRANSFORMERS = (
    "has(self.engine) && has(self.engine.modelImpl) && "
    f"self.engine.modelImpl == '{ModelImplementation.TRANSFORMERS}'"
)

_HAS_DRAFT = (
    "has(self.engine) && has(self.engine.speculative) && has(self.engine.speculative.model)"
)
HEADS_READ_OUR_OWN_CODE = cel_between(
    f"!({_IS_TRANSFORMERS}) || !has(self.engine.speculative) || "
    f"self.engine.speculative.method != '{SpeculativeMethod.EAGLE3}'",
    "must be auto or octavo with method eagle3: heads do not read transformers' own modules",
    "engine.modelImpl",
)

SLEEP_LOSES_ADAPTERS = cel_between(
    f"!({_TAKES_ADAPTERS}) || !has(self.engine.enableSleepMode) || !self.engine.enableSleepMode",
    "does not go with enableSleepMode: a model that wakes up would have lost its adapters",
    "engine.enableLora",
)

NO_RANKS_NO_TIMEOUT = cel_between(
    f"!has(self.engine) || !has(self.engine.distributedTimeoutSeconds) || {_RANKS_SHARE}",
    "has no effect where no ranks share the model: set tensorParallelSize above 1, or leave it out",
    "engine.distributedTimeoutSeconds",
)

_STATES_BOTH = (
    "has(self.engine) && has(self.engine.kvCacheMemory) && has(self.resources) && "
    "has(self.resources.memory)"
)
CPUS_KEEP_THE_CACHE_IN_MEMORY = cel_between(
    f"!({_STATES_BOTH}) || {_ON_A_GPU} || !isQuantity(string(self.engine.kvCacheMemory)) || "
    "!isQuantity(string(self.resources.memory)) || quantity(string(self.engine.kvCacheMemory)).isLessThan("
    "quantity(string(self.resources.memory)))",
    "must be less than resources.memory, which also holds the weights: on CPUs the KV cache is in it",
    "engine.kvCacheMemory",
    was_broken=f"{before(_STATES_BOTH)} && !{before(_ON_A_GPU)} && "
    "self.engine.kvCacheMemory == oldSelf.value().engine.kvCacheMemory && "
    "self.resources.memory == oldSelf.value().resources.memory",
)

_DOWNLOADS = (
    f"({is_downloaded('self.model.uri')} || ({_HAS_DRAFT} && "
    f"{is_downloaded('self.engine.speculative.model.uri')}))"
)
_DOWNLOADS_HELP = "is for models that are downloaded: hf:// and s3://"
# Where no device is named the runtime takes a GPU that it finds, asked for or not.
_ON_A_CPU = f"(has(self.engine.device) && self.engine.device == '{Device.CPU}')"


def _is_for_gpus(field: str) -> dict[str, Any]:
    return cel_between(
        f"!has(self.engine) || !has(self.engine.{field}) || !{_ON_A_CPU}",
        "has no effect on CPUs, and engine.device is cpu: leave one of them out",
        f"engine.{field}",
    )


NO_DOWNLOAD_NO_RESOURCES = cel_between(
    f"!has(self.resources) || !has(self.resources.download) || {_DOWNLOADS}",
    _DOWNLOADS_HELP,
    "resources.download",
)

NO_DOWNLOAD_NO_CACHE = cel_between(
    f"!has(self.model.cache) || {_DOWNLOADS}",
    _DOWNLOADS_HELP,
    "model.cache",
)

COMBINATIONS = (
    QUANTISED_HALVES_ARE_FOR_GPUS,
    RANKS_HAVE_A_GPU_EACH,
    HEADS_READ_OUR_OWN_CODE,
    SLEEP_LOSES_ADAPTERS,
    NO_RANKS_NO_TIMEOUT,
    CPUS_KEEP_THE_CACHE_IN_MEMORY,
    *(
        _is_for_gpus(field)
        for field in ("gpuMemoryUtilization", "enforceEager", "quantizeActivations")
    ),
    NO_DOWNLOAD_NO_RESOURCES,
    NO_DOWNLOAD_NO_CACHE,
)
