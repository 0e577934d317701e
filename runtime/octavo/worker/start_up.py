"""What starting an executor takes on every device: timed phases, the KV cache's size, what is reported."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from octavo.config import EngineConfig
from octavo.models.config import DecoderConfig
from octavo.worker.batch import ExecutorInfo
from octavo.worker.dtype import choose_cache_dtype
from octavo.worker.memory import (
    KVCacheSize,
    bytes_per_block,
    check_length_fits,
    room_beside_weights,
    size_kv_cache,
)

logger = logging.getLogger(__name__)


class PhaseTimer:
    """Announces phases as they start and keeps how long they took, in seconds."""

    def __init__(self, on_phase: Callable[[str], None]) -> None:
        self._on_phase = on_phase
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._on_phase(name)
        started = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - started


def check_gpu_memory(
    config: EngineConfig, shape: DecoderConfig, device: torch.device, dtype: torch.dtype
) -> None:
    """Refuses what cannot fit before the weights are read; raises `OutOfMemoryError`.

    What passes may still turn out too large when the profile run has measured the activations.
    """
    free, total = torch.cuda.mem_get_info(device)
    room = room_beside_weights(
        num_parameters=shape.num_parameters,
        element_bytes=dtype.itemsize,
        free_bytes=free,
        total_bytes=total,
        utilization=config.gpu_memory_utilization,
    )
    if config.max_model_len is not None and config.kv_cache_memory_bytes is None:
        check_length_fits(
            room_bytes=room,
            reserve_bytes=_activation_bytes(config, shape, dtype),
            block_bytes=_block_bytes(
                config, shape, choose_cache_dtype(config.kv_cache_dtype, dtype)
            ),
            block_size=config.block_size,
            wanted_max_len=config.max_model_len,
        )


def _activation_bytes(config: EngineConfig, shape: DecoderConfig, dtype: torch.dtype) -> int:
    """Roughly: a layer's tensors for all tokens of a step, the scores of all sequences in float32 twice."""
    token = dtype.itemsize * 3 * (shape.hidden_size + shape.intermediate_size)
    scores = shape.vocab_size * (dtype.itemsize + 8)
    return config.max_num_batched_tokens * token + config.max_num_seqs * scores + 2**29


def _block_bytes(config: EngineConfig, shape: DecoderConfig, cache_dtype: torch.dtype) -> int:
    return bytes_per_block(
        block_size=config.block_size,
        num_layers=shape.num_layers,
        num_kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        element_bytes=cache_dtype.itemsize,
    )


def size_cache(
    config: EngineConfig, shape: DecoderConfig, cache_dtype: torch.dtype, budget_bytes: int
) -> KVCacheSize:
    """Fits the KV cache into the budget; see `size_kv_cache` for what is raised."""
    size = size_kv_cache(
        budget_bytes=budget_bytes,
        block_bytes=_block_bytes(config, shape, cache_dtype),
        block_size=config.block_size,
        max_num_seqs=config.max_num_seqs,
        model_max_len=shape.max_position_embeddings,
        wanted_max_len=config.max_model_len,
    )
    if size.is_capped:
        logger.warning(
            "max_model_len is %d, not the model's %d: more does not fit the KV cache.",
            size.max_model_len,
            shape.max_position_embeddings,
        )
    return size


def executor_info(
    config: EngineConfig,
    shape: DecoderConfig,
    size: KVCacheSize,
    *,
    dtype: torch.dtype,
    device: torch.device,
    phases: dict[str, float],
    is_asynchronous: bool,
) -> ExecutorInfo:
    return ExecutorInfo(
        max_model_len=size.max_model_len,
        num_kv_blocks=size.num_blocks,
        block_size=config.block_size,
        vocab_size=shape.vocab_size,
        eos_token_ids=tuple(dict.fromkeys(shape.eos_token_ids + config.eos_token_ids)),
        dtype=str(dtype).removeprefix("torch."),
        device=str(device),
        phases=phases,
        is_asynchronous=is_asynchronous,
        sliding_window=_widest_window(shape),
    )


def _widest_window(shape: DecoderConfig) -> int | None:
    """Of all layers, in tokens; None when some layer has none."""
    windows = [window for window in shape.sliding_windows if window is not None]
    return max(windows) if len(windows) == shape.num_layers else None
