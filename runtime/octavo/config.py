"""What one engine is started with. Serialisable, so that the API process hands it to the engine process."""

from __future__ import annotations

import enum

import msgspec

from octavo.errors import InvalidConfigurationError


class Device(enum.Enum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class LoadFormat(enum.Enum):
    """`DUMMY` makes random weights of the real shapes: speed does not depend on the values."""

    AUTO = "auto"
    SAFETENSORS = "safetensors"
    DUMMY = "dummy"


class KVCacheDtype(enum.Enum):
    """`FP8` and `FP8_E4M3` are two names of one format, as in vLLM."""

    AUTO = "auto"
    BFLOAT16 = "bfloat16"
    FP8 = "fp8"
    FP8_E4M3 = "fp8_e4m3"

    @property
    def is_fp8(self) -> bool:
        return self in (KVCacheDtype.FP8, KVCacheDtype.FP8_E4M3)


class Quantization(enum.Enum):
    """Weight-only formats that are made at load."""

    INT8 = "int8"
    INT4 = "int4"


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One engine. Raises `InvalidConfigurationError` when built with a value out of range.

    Args:
        model: Folder with config.json, safetensors and tokenizer (already resolved and downloaded).
        dtype: `auto` takes the checkpoint's on a GPU and bf16 or fp32, whichever is right, on a CPU.
        max_model_len: Longest sequence in tokens, prompt plus output; None takes the model's own.
        block_size: Tokens in one KV-cache block.
        gpu_memory_utilization: Share of the GPU's memory for weights, activations and KV cache.
        kv_cache_memory_bytes: Fixes the KV cache's size; None sizes it from what is free.
        kv_cache_dtype: `auto` is the model's dtype; `fp8` halves the cache (float8 e4m3).
        quantization: `int8` or `int4` packs the weights of 16- or 32-bit checkpoints at load (CPU); None
            leaves them.
        enable_prefix_caching: Prompts that begin alike share their blocks, also after a request ended.
        max_num_seqs: Sequences that run at once.
        max_num_batched_tokens: Tokens of one step, prefill and decode together.
        max_queued_requests: Waiting requests; more are refused with 429.
        seed: Of dummy weights and of requests that bring none.
        eos_token_ids: End a sequence beside those that the model's folder names.
    """

    model: str
    dtype: str = "auto"
    device: Device = Device.AUTO
    load_format: LoadFormat = LoadFormat.AUTO
    max_model_len: int | None = None
    block_size: int = 16
    gpu_memory_utilization: float = 0.9
    kv_cache_memory_bytes: int | None = None
    kv_cache_dtype: KVCacheDtype = KVCacheDtype.AUTO
    quantization: Quantization | None = None
    enable_prefix_caching: bool = True
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    max_queued_requests: int = 1024
    enforce_eager: bool = False
    seed: int = 0
    eos_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.dtype not in ("auto", "float32", "float16", "bfloat16"):
            raise InvalidConfigurationError(
                f"dtype is {self.dtype!r}; use auto, float32, float16 or bfloat16."
            )
        self._check_types()
        if not 0.05 <= self.gpu_memory_utilization <= 1.0:
            raise InvalidConfigurationError(
                f"gpu_memory_utilization is {self.gpu_memory_utilization}; it must lie in [0.05, 1]."
            )
        if self.max_model_len is not None and self.max_model_len < 2:
            raise InvalidConfigurationError(
                f"max_model_len is {self.max_model_len}; it must be at least 2, a token of prompt and one of "
                "output."
            )
        for name in (
            "block_size",
            "kv_cache_memory_bytes",
            "max_num_seqs",
            "max_num_batched_tokens",
            "max_queued_requests",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidConfigurationError(f"{name} is {value}; it must be at least 1.")
        if self.block_size not in (8, 16, 32, 64, 128):
            raise InvalidConfigurationError(
                f"block_size is {self.block_size}; use 8, 16, 32, 64 or 128."
            )
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise InvalidConfigurationError(
                f"max_num_batched_tokens ({self.max_num_batched_tokens}) is below max_num_seqs "
                f"({self.max_num_seqs}): one decode step of all sequences would not fit. Raise the "
                "first or lower the second."
            )

    def _check_types(self) -> None:
        """For callers from Python: a text that looks like a number would fail far from here."""
        for name, (kinds, words) in _TYPES.items():
            value = getattr(self, name)
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise InvalidConfigurationError(f"{name} is {value!r}; it must be {words}.")


_INTEGER = ((int,), "an integer")
_INTEGER_OR_NONE = ((int, type(None)), "an integer, or None")
_BOOLEAN = ((bool,), "True or False")
_TYPES = {
    "max_model_len": _INTEGER_OR_NONE,
    "kv_cache_memory_bytes": _INTEGER_OR_NONE,
    "block_size": _INTEGER,
    "max_num_seqs": _INTEGER,
    "max_num_batched_tokens": _INTEGER,
    "max_queued_requests": _INTEGER,
    "seed": _INTEGER,
    "gpu_memory_utilization": ((int, float), "a number"),
    "enable_prefix_caching": _BOOLEAN,
    "enforce_eager": _BOOLEAN,
}
