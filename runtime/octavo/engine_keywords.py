"""Engine keywords: the options that `LLM` takes by name, for type checkers. `EngineConfig` tells of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from octavo.config import Device, KVCacheDtype, LoadFormat, ModelImplementation, Quantization
from octavo.speculative_config import SpeculativeConfig


class EngineKeywords(TypedDict, total=False):
    """A test holds their names to `EngineConfig`'s."""

    load_format: LoadFormat | str
    model_impl: ModelImplementation | str
    dtype: str
    quantization: Quantization | str | None
    quantize_activations: bool
    max_model_len: int | None
    device: Device | str
    gpu_memory_utilization: float | None
    kv_cache_memory: int | str | None
    kv_cache_memory_bytes: int | None
    kv_cache_dtype: KVCacheDtype | str
    enable_prefix_caching: bool
    block_size: int
    tensor_parallel_size: int
    speculative_config: SpeculativeConfig | Mapping[str, object] | str | None
    distributed_timeout_seconds: int
    enable_sleep_mode: bool
    enable_lora: bool
    max_loras: int
    max_lora_rank: int
    max_cpu_loras: int | None
    max_num_seqs: int
    max_num_batched_tokens: int
    enforce_eager: bool
    seed: int
