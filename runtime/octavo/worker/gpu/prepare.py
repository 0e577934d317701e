"""Preparation of a GPU, on every rank that shares a model alike: the KV cache is sized, what will run is
compiled, decode steps are recorded.

Ranks go through it together: each step of one is a step of all, and so is each recording.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import torch

from octavo.config import EngineConfig
from octavo.errors import InvalidConfigurationError, OutOfMemoryError
from octavo.worker.gpu.cuda_graphs import Capture, CudaCapture
from octavo.worker.gpu.drafter import GpuDrafting
from octavo.worker.gpu.packed_runner import RunnerLimits
from octavo.worker.gpu.parked_weights import park
from octavo.worker.gpu.profile import (
    SteppedRunner,
    gpu_cache_budget,
    run_largest_steps,
    warm_up_gpu,
)
from octavo.worker.loaded import Loaded
from octavo.worker.start.dtype import choose_cache_dtype
from octavo.worker.start.memory import BudgetSource, KVCacheSize
from octavo.worker.start.phases import PhaseTimer, cache_block_bytes, size_cache
from octavo.worker.wakeable import Wakeable

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=SteppedRunner)


@dataclass(frozen=True, slots=True)
class Prepared(Generic[R]):
    """
    Args:
        record: Records the decode steps of a runner that woke, where they are recorded.
    """

    loaded: Wakeable[Loaded[GpuDrafting], R]
    size: KVCacheSize
    record: Callable[[R], None]


def prepare_gpu(
    config: EngineConfig,
    read: Loaded[GpuDrafting],
    make_runner: Callable[[Loaded[GpuDrafting], RunnerLimits], R],
    *,
    device: torch.device,
    dtype: torch.dtype,
    phase: PhaseTimer,
    reload: Callable[[], Loaded[GpuDrafting]],
    least: Callable[[int], int] = lambda own: own,
    new_capture: Callable[[], Capture] | None = None,
    may_run_eager: bool = False,
) -> Prepared[R]:
    """Phases profile, warmup and, unless `config.enforce_eager`, capture.

    Args:
        read: What guesses for the model is in the runners of `make_runner`.
        reload: Reads the same anew.
        least: Of all ranks' numbers. They agree on blocks, of which what guesses takes a part on the first
            rank alone.
        new_capture: Of CUDA when absent.
        may_run_eager: Steps that cannot be recorded are launched piece by piece, which the log says; else
            that ends the start.

    Raises `OutOfMemoryError` or `InvalidConfigurationError`.
    """
    cache_dtype = choose_cache_dtype(config.kv_cache_dtype, dtype)
    num_ranks, drafting = config.tensor_parallel_size, read.drafting

    def record(runner: R) -> None:
        if config.enforce_eager:
            return
        capture = new_capture() if new_capture else CudaCapture(device, is_shared=num_ranks > 1)
        _record(runner, capture, may_run_eager=may_run_eager)

    with translated_start_errors(device):
        with phase("profile"):
            budget, source = config.kv_cache_memory_bytes, BudgetSource.FLAG
            if budget is None:
                make = partial(make_runner, read)
                budget = gpu_cache_budget(config, read.model.spec, make, device)
                budget -= 0 if drafting is None else drafting.kept_bytes
                source = BudgetSource.GPU_SHARE
            spec = read.model.spec.on_rank(num_ranks)
            draft_block_bytes = 0 if drafting is None else drafting.block_bytes
            each = cache_block_bytes(config, spec, cache_dtype) + draft_block_bytes
            budget = _agreed(budget, each, least)
            size = size_cache(config, spec, cache_dtype, budget, source, draft_block_bytes)
            limits = RunnerLimits.of(
                config, num_blocks=size.num_blocks, max_model_len=size.max_model_len
            )
            loaded = Wakeable(read, lambda of: make_runner(of, limits), reload, park)
        with phase("warmup"):
            warm_up_gpu(loaded.runner)
        if not config.enforce_eager:
            with phase("capture"):
                record(loaded.runner)
                run_largest_steps(loaded.runner)  # once more, now that recordings hold memory
    return Prepared(loaded, size, record)


def _agreed(budget: int, block_bytes: int, least: Callable[[int], int]) -> int:
    """Bytes of as many blocks as every rank has room for; the budget itself where this one has the fewest."""
    own = budget // block_bytes
    blocks = least(own)
    return budget if blocks == own else blocks * block_bytes


def _record(runner: SteppedRunner, capture: Capture, *, may_run_eager: bool) -> None:
    """See `prepare_gpu`."""
    try:
        runner.capture(capture)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if not may_run_eager:
            raise
        words = " ".join(str(error).split())
        logger.warning("Steps run without CUDA graphs: recording failed: %.300s", words)
    torch.cuda.empty_cache()  # what the runs before each recording left


@contextmanager
def translated_start_errors(device: torch.device) -> Iterator[None]:
    """What the first steps on a GPU raise, as errors that say what to do."""
    from triton.runtime.errors import OutOfResources  # triton is not on every platform

    try:
        yield
    except ValueError as error:  # a kernel has no form for these shapes or types on this GPU
        raise InvalidConfigurationError(f"The model cannot run on {device}: {error}") from error
    except OutOfResources as error:
        raise InvalidConfigurationError(
            f"The model cannot run on {device}: a kernel needs {error.required} of {error.name}, and this "
            f"GPU has {error.limit}. Kernels are cut for A100, H100 and H200: choose such nodes "
            "(spec.scheduling.nodeSelector), or use --device cpu."
        ) from error
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"The KV cache and the largest steps do not fit beside the weights: {error} Lower "
            "--gpu-memory-utilization or --kv-cache-memory, --max-num-batched-tokens or --max-num-seqs."
        ) from error
