"""GPU fit: whether a GPU runs a model and holds it, known before its weights are read."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.config import EngineConfig, KVCacheDtype
from octavo.errors import InvalidConfigurationError, OutOfMemoryError
from octavo.models.base import ModelConfig
from octavo.models.sharing import sizes_that_share
from octavo.quantization import Scheme
from octavo.worker.start.adapters import seats_bytes
from octavo.worker.start.dtype import choose_cache_dtype
from octavo.worker.start.memory import (
    BudgetSource,
    check_cache_fits,
    check_length_fits,
    format_bytes,
    room_on_gpu,
)
from octavo.worker.start.phases import activation_bytes, cache_block_bytes, size_cache
from octavo.worker.start.weight_bytes import weight_bytes

_MIN_CAPABILITY = (8, 0)
_MIN_FP8_CAPABILITY = (8, 9)


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
