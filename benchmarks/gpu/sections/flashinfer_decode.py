"""FlashInfer's paged decode on the same problems: the yardstick of `attention`, where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from benchmarks.gpu.sections.attention import Problem

_WORKSPACE_BYTES = 128 * 2**20


def is_flashinfer_installed() -> bool:
    return importlib.util.find_spec("flashinfer") is not None


def flashinfer_calls(
    problem: Problem, out: torch.Tensor, block_size: int
) -> list[Callable[[], object]]:
    """One planned call for each set of blocks; planning is not timed, as it runs once a step."""
    import flashinfer

    sets, batch, blocks = problem.tables.shape
    device = problem.query.device
    heads = problem.heads
    length = int(problem.context_lens[0])
    indptr = torch.arange(batch + 1, dtype=torch.int32, device=device) * blocks
    last = torch.full((batch,), (length - 1) % block_size + 1, dtype=torch.int32, device=device)
    pages = (problem.cache[:, :, 0], problem.cache[:, :, 1])
    calls: list[Callable[[], object]] = []
    for number in range(sets):
        wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(
            torch.zeros(_WORKSPACE_BYTES, dtype=torch.uint8, device=device),
            kv_layout="NHD",
            use_tensor_cores=heads.num_heads // heads.num_kv_heads >= 4,
        )
        wrapper.plan(
            indptr,
            problem.tables[number].flatten(),
            last,
            heads.num_heads,
            heads.num_kv_heads,
            heads.head_dim,
            block_size,
            q_data_type=problem.query.dtype,
            kv_data_type=problem.cache.dtype,
            sm_scale=problem.options.scale,
        )
        calls.append(partial(wrapper.run, problem.query, pages, out=out))
    return calls
