"""Number formats. Which number format the weights, the activations and the KV cache take."""

from __future__ import annotations

import torch

from octavo.config import KVCacheDtype
from octavo.models.base import BaseConfig
from octavo.worker.machine import has_fast_bfloat16

_BY_NAME = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
# Below this a decode step is bound by dispatch, not by memory: fp32 is then as fast and more exact.
_MIN_PARAMETERS_FOR_BFLOAT16 = 20_000_000


def choose_dtype(wanted: str, config: BaseConfig, device: torch.device) -> torch.dtype:
    """`wanted` itself, or for `auto`: the checkpoint's on a GPU; on a CPU bf16 if the checkpoint is
    stored in 16 bits, is not tiny, and the CPU multiplies bf16 itself; otherwise fp32."""
    if wanted != "auto":
        return _BY_NAME[wanted]
    stored = stored_dtype(config)
    if device.type != "cpu":
        return stored
    is_large = config.num_parameters >= _MIN_PARAMETERS_FOR_BFLOAT16
    if stored.itemsize == 2 and is_large and has_fast_bfloat16():
        return torch.bfloat16
    return torch.float32


def stored_dtype(config: BaseConfig) -> torch.dtype:
    """Of most weights in the checkpoint, by its config.json."""
    return _BY_NAME.get(config.spec.stored_dtype, torch.float32)


def held_dtype(config: BaseConfig, device: torch.device) -> torch.dtype | None:
    """In which a CPU can hold the checkpoint's numbers, whatever it multiplies them in; None on a GPU."""
    return stored_dtype(config) if device.type == "cpu" else None


def choose_cache_dtype(wanted: KVCacheDtype, dtype: torch.dtype) -> torch.dtype:
    """Of keys and values; `auto` is `dtype`, the model's."""
    if wanted.is_fp8:
        return torch.float8_e4m3fn
    return torch.bfloat16 if wanted is KVCacheDtype.BFLOAT16 else dtype
