"""Phases of a start. What starting an executor takes on every device: timed phases, the KV cache's size, what
is reported."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from octavo.config import EngineConfig, KVCacheDtype
from octavo.errors import InvalidConfigurationError, OutOfMemoryError
from octavo.models.base import ModelConfig
from octavo.models.sharing import sizes_that_share
from octavo.models.spec import ModelSpec, Task
from octavo.options import option_fields
from octavo.quantization import Scheme, Unquantised
from octavo.worker.batch import ExecutorInfo
from octavo.worker.gpu.draft_rows import most_drafts
from octavo.worker.start.adapters import seats_bytes
from octavo.worker.start.dtype import choose_cache_dtype
from octavo.worker.start.memory import (
    BudgetSource,
    KVCacheSize,
    bytes_per_block,
    check_cache_fits,
    check_length_fits,
    format_bytes,
    host_cache_budget,
    room_on_gpu,
    room_on_host,
    size_kv_cache,
)
from octavo.worker.start.weight_bytes import rounded_weight_bytes, weight_bytes

logger = logging.getLogger(__name__)

_MIN_CAPABILITY = (8, 0)
_MIN_FP8_CAPABILITY = (8, 9)
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


def check_gpu_generation(
    name: str, capability: tuple[int, int], kv_cache_dtype: KVCacheDtype
) -> None:
    """Refuses GPUs that lack what the kernels are written for; raises `InvalidConfigurationError`."""
    major, minor = capability
    if capability < _MIN_CAPABILITY:
        raise InvalidConfigurationError(
            f"The GPU is a {name} of compute capability {major}.{minor}; the kernels need 8.0 or later "
            "(A100, L4, H100). Choose such nodes (spec.scheduling.nodeSelector), or use --device cpu."
        )
    if kv_cache_dtype.is_fp8 and capability < _MIN_FP8_CAPABILITY:
        raise InvalidConfigurationError(
            f"--kv-cache-dtype {kv_cache_dtype.value} needs a GPU of compute capability 8.9 or later (L4, "
            f"L40S, H100), and this is a {name} of {major}.{minor}. Use --kv-cache-dtype auto "
            "(spec.engine.kvCacheDtype), or choose such nodes (spec.scheduling.nodeSelector)."
        )


def tell_options_for_gpus(config: EngineConfig) -> None:
    """On a CPU: names what was given out of habit and changes nothing."""
    given = [
        field.flags[0]
        for field in option_fields(type(config))
        if field.option.is_for_gpus and getattr(config, field.name) != field.default
    ]
    if given:
        logger.warning("The engine runs on the CPU: %s without effect.", ", ".join(given))


@dataclass(frozen=True, slots=True)
class Beside:
    """What guesses for a model takes beside it, on the first of its ranks: its weights, and in each block of
    tokens.

    Args:
        table_bytes: Of an embedding that is the model's own, and a copy of it where ranks share the model.
    """

    weight_bytes: int = 0
    block_bytes: int = 0
    table_bytes: int = 0

    def weight_bytes_of(self, num_ranks: int) -> int:
        """Where so many ranks share the model."""
        return self.weight_bytes + (self.table_bytes if num_ranks > 1 else 0)


NOTHING = Beside()


def check_gpu_memory(
    config: EngineConfig,
    model: ModelConfig,
    device: torch.device,
    dtype: torch.dtype,
    scheme: Scheme,
    beside: Beside = NOTHING,
) -> None:
    """As `check_gpu_fit`, of a GPU as it is now."""
    free, total = torch.cuda.mem_get_info(device)
    check_gpu_fit(config, model, dtype, scheme, free_bytes=free, total_bytes=total, beside=beside)


def check_gpu_fit(
    config: EngineConfig,
    model: ModelConfig,
    dtype: torch.dtype,
    scheme: Scheme,
    *,
    free_bytes: int,
    total_bytes: int,
    beside: Beside = NOTHING,
) -> None:
    """Refuses what cannot fit before the weights are read; raises `OutOfMemoryError`, with the number of such
    GPUs that would do.

    What passes may still turn out too large when the profile run has measured the activations.

    Args:
        scheme: Of the weights, of which each of several ranks has its part.
        free_bytes, total_bytes: Of the GPU's memory.
    """
    try:
        _check_gpu_fit(config, model, dtype, scheme, free_bytes, total_bytes, beside)
    except OutOfMemoryError as error:
        usable = free_bytes - int(total_bytes * (1.0 - config.gpu_memory_share))
        enough = gpus_needed(config, model, dtype, scheme, usable, beside)
        seats = seats_bytes(config, model, dtype, config.tensor_parallel_size)
        raise OutOfMemoryError(f"{error}{seats_hint(seats)}{share_hint(config, enough)}") from None


def seats_hint(num_bytes: int) -> str:
    """A further sentence of an error, where adapters have seats."""
    if not num_bytes:
        return ""
    return (
        f" Of what is taken, {format_bytes(num_bytes)} are seats of adapters: lower --max-loras or "
        "--max-lora-rank."
    )


def share_hint(config: EngineConfig, num_gpus: int | None) -> str:
    """A further sentence of an error; empty where no more GPUs than the config's are known to do."""
    if num_gpus is None or num_gpus <= config.tensor_parallel_size:
        return ""
    return (
        f" Or let {num_gpus} such GPUs share the model: --tensor-parallel-size {num_gpus} "
        "(spec.resources.gpu)."
    )


def gpus_needed(
    config: EngineConfig,
    model: ModelConfig,
    dtype: torch.dtype,
    scheme: Scheme,
    usable_bytes: int,
    beside: Beside = NOTHING,
) -> int | None:
    """Fewest ranks that can share the model and of which each, with so many bytes of its GPU, has room for
    its part of the weights and of the longest sequence, and for activations, the first also for what guesses;
    None: no number does."""
    cache_dtype = choose_cache_dtype(config.kv_cache_dtype, dtype)
    room = usable_bytes - activation_bytes(config, model.spec, dtype)
    blocks = -(-(config.max_model_len or model.spec.default_context) // config.block_size)
    for size in sizes_that_share(model):
        block = cache_block_bytes(config, model.spec.on_rank(size), cache_dtype)
        block += beside.block_bytes
        taken = taken_on_gpu(config, model, dtype, scheme, size, beside)
        if taken + blocks * block <= room:
            return size
    return None


def taken_on_gpu(
    config: EngineConfig,
    model: ModelConfig,
    dtype: torch.dtype,
    scheme: Scheme,
    num_ranks: int,
    beside: Beside = NOTHING,
) -> int:
    """Bytes of the first rank's GPU that are taken before its KV cache is sized: by its weights, the seats of
    adapters, and what guesses."""
    weights = weight_bytes(model, dtype, scheme, num_ranks)
    return (
        weights + seats_bytes(config, model, dtype, num_ranks) + beside.weight_bytes_of(num_ranks)
    )


def _check_gpu_fit(
    config: EngineConfig,
    model: ModelConfig,
    dtype: torch.dtype,
    scheme: Scheme,
    free_bytes: int,
    total_bytes: int,
    beside: Beside,
) -> None:
    ranks = config.tensor_parallel_size
    spec = model.spec.on_rank(ranks)
    needed = taken_on_gpu(config, model, dtype, scheme, ranks, beside)
    room = room_on_gpu(
        weight_bytes=needed,
        free_bytes=free_bytes,
        total_bytes=total_bytes,
        utilization=config.gpu_memory_share,
    )
    cache_dtype = choose_cache_dtype(config.kv_cache_dtype, dtype)
    block_bytes = cache_block_bytes(config, spec, cache_dtype) + beside.block_bytes
    if config.kv_cache_memory_bytes is not None:
        size = size_cache(
            config,
            spec,
            cache_dtype,
            config.kv_cache_memory_bytes,
            BudgetSource.FLAG,
            beside.block_bytes,
        )
        beside_weights = free_bytes - needed  # the flag is not bound by the share
        check_cache_fits(cache_bytes=size.num_blocks * block_bytes, room_bytes=beside_weights)
    elif config.max_model_len is not None:
        check_length_fits(
            room_bytes=room,
            reserve_bytes=activation_bytes(config, spec, dtype),
            block_bytes=block_bytes,
            block_size=config.block_size,
            wanted_max_len=config.max_model_len,
        )


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
