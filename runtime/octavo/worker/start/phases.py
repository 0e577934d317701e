"""Phases of a start. What starting an executor takes on every device: timed phases, the KV cache's size, what
is reported."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from octavo.config import EngineConfig
from octavo.models.base import ModelConfig
from octavo.models.spec import ModelSpec, Task
from octavo.options import option_fields
from octavo.quantization import Scheme, Unquantised
from octavo.worker.batch import ExecutorInfo
from octavo.worker.gpu.draft_rows import most_drafts
from octavo.worker.start.dtype import choose_cache_dtype
from octavo.worker.start.memory import (
    BudgetSource,
    KVCacheSize,
    bytes_per_block,
    check_cache_fits,
    host_cache_budget,
    room_on_host,
    size_kv_cache,
)
from octavo.worker.start.weight_bytes import rounded_weight_bytes, weight_bytes

logger = logging.getLogger(__name__)

# Up to about here reading the weights takes as long as what is computed with them.
_SHORT_STEP_TOKENS = {"cpu": 128, "cuda": 512}
# A CPU is as fast with this many tokens beside each decode as with all that a step may hold.
_CHUNK_TOKENS_PER_DECODE = {"cpu": 16, "cuda": None}


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


def tell_options_for_gpus(config: EngineConfig) -> None:
    """On a CPU: names what was given out of habit and changes nothing."""
    given = [
        field.flags[0]
        for field in option_fields(type(config))
        if field.option.is_for_gpus and getattr(config, field.name) != field.default
    ]
    if given:
        logger.warning("The engine runs on the CPU: %s without effect.", ", ".join(given))


def size_host_cache(
    config: EngineConfig,
    model: ModelConfig,
    dtype: torch.dtype,
    scheme: Scheme,
    available_bytes: int,
    *,
    draft_block_bytes: int = 0,
) -> KVCacheSize:
    """The KV cache of a CPU, of each of its ranks, from what their weights will leave: asked before they are
    read.

    Args:
        scheme: Of the weights.
        available_bytes: Memory that can be allocated now.
        draft_block_bytes: What each block takes besides, in the cache of what guesses for the model.

    Raises `OutOfMemoryError` when weights, cache or one sequence do not fit, and
    `InvalidConfigurationError`, as `size_kv_cache`.
    """
    ranks, can_round = config.tensor_parallel_size, isinstance(scheme, Unquantised)
    spec = model.spec.on_rank(ranks)
    num_local = len(config.local_ranks)
    room = room_on_host(
        weight_bytes=num_local * weight_bytes(model, dtype, scheme, ranks),
        available_bytes=available_bytes,
        rounded=rounded_weight_bytes(model, dtype) if can_round else {},
    )
    room //= num_local
    cache_dtype = choose_cache_dtype(config.kv_cache_dtype, dtype)
    if config.kv_cache_memory_bytes is None:
        budget = host_cache_budget(room)
        return size_cache(
            config, spec, cache_dtype, budget, BudgetSource.HOST_SHARE, draft_block_bytes
        )
    size = size_cache(
        config,
        spec,
        cache_dtype,
        config.kv_cache_memory_bytes,
        BudgetSource.FLAG,
        draft_block_bytes,
    )
    block_bytes = cache_block_bytes(config, spec, cache_dtype) + draft_block_bytes
    check_cache_fits(cache_bytes=size.num_blocks * block_bytes, room_bytes=room)
    return size


def activation_bytes(config: EngineConfig, spec: ModelSpec, dtype: torch.dtype) -> int:
    """Roughly: a layer's tensors for all tokens of a step, scores of all sampled rows in float32 twice."""
    token = dtype.itemsize * 3 * (spec.hidden_size + spec.inner_size)
    scores = spec.vocab_size * (dtype.itemsize + 8)
    return (
        config.max_num_batched_tokens * token
        + (config.max_num_seqs + most_drafts(config)) * scores
        + 2**29
    )


def cache_block_bytes(config: EngineConfig, spec: ModelSpec, cache_dtype: torch.dtype) -> int:
    """Keys and values of a block of tokens in all layers."""
    return bytes_per_block(
        block_size=config.block_size,
        num_layers=spec.num_layers,
        num_kv_heads=spec.num_kv_heads,
        head_dim=spec.head_dim,
        element_bytes=cache_dtype.itemsize,
    )


def size_cache(
    config: EngineConfig,
    spec: ModelSpec,
    cache_dtype: torch.dtype,
    budget_bytes: int,
    source: BudgetSource,
    draft_block_bytes: int = 0,
) -> KVCacheSize:
    """Fits the KV cache, and with it that of what guesses, into the budget; see `size_kv_cache` for what is
    raised."""
    size = size_kv_cache(
        budget_bytes=budget_bytes,
        block_bytes=cache_block_bytes(config, spec, cache_dtype) + draft_block_bytes,
        block_size=config.block_size,
        max_num_seqs=config.max_num_seqs,
        model_max_len=spec.default_context if config.max_model_len is None else spec.context,
        wanted_max_len=config.max_model_len,
        source=source,
    )
    if size.is_capped:
        logger.warning(
            "max_model_len is %d, not the model's %d: more does not fit the KV cache.",
            size.max_model_len,
            spec.default_context,
        )
    return size


def executor_info(
    config: EngineConfig,
    spec: ModelSpec,
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
        vocab_size=spec.vocab_size,
        dtype=str(dtype).removeprefix("torch."),
        device=str(device),
        phases=phases,
        is_asynchronous=is_asynchronous,
        sliding_window=spec.widest_window,
        can_generate=spec.task is Task.GENERATE,
        short_step_tokens=_SHORT_STEP_TOKENS[device.type],
        chunk_tokens_per_decode=_CHUNK_TOKENS_PER_DECODE[device.type],
    )
