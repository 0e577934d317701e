"""FlashInfer's paged decode on the problems of `attention`: the yardstick, where it is installed.

It compiles a kernel for each shape when that is first asked for, which may take longer than all the rest
of the section: it runs late in the plan, in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.metadata import version

import torch

from benchmarks.gpu.context import Context
from benchmarks.gpu.results import SectionResult
from benchmarks.gpu.sections.attention import (
    BLOCK_SIZE,
    SHAPES,
    Heads,
    Problem,
    attention_row,
    make_pool,
    problems,
)
from benchmarks.gpu.timing import device_seconds

_WORKSPACE_BYTES = 128 * 2**20


def run(context: Context) -> SectionResult:
    for heads in SHAPES:
        _sweep(context, heads)
    return context.result(
        f"FlashInfer {version('flashinfer-python')}; planning, once a step, is not timed"
    )


def _sweep(context: Context, heads: Heads) -> None:
    pool = make_pool(context, heads)
    # One for all calls: they run one after another.
    workspace = torch.zeros(_WORKSPACE_BYTES, dtype=torch.uint8, device=context.device)
    for problem in problems(context, heads, pool):
        seconds = device_seconds(_calls(problem, workspace), context.device)
        context.emit(attention_row(context, problem, seconds))


def _calls(problem: Problem, workspace: torch.Tensor) -> list[Callable[[], object]]:
    """One planned call for each set of blocks."""
    import flashinfer

    sets, batch, blocks = problem.tables.shape
    device = problem.query.device
    heads = problem.heads
    out = torch.empty_like(problem.query)
    length = int(problem.context_lens[0])
    indptr = torch.arange(batch + 1, dtype=torch.int32, device=device) * blocks
    last = torch.full((batch,), (length - 1) % BLOCK_SIZE + 1, dtype=torch.int32, device=device)
    pages = (problem.cache[:, :, 0], problem.cache[:, :, 1])
    calls: list[Callable[[], object]] = []
    for number in range(sets):
        wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(
            workspace,
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
            BLOCK_SIZE,
            q_data_type=problem.query.dtype,
            kv_data_type=problem.cache.dtype,
            sm_scale=problem.options.scale,
        )
        calls.append(partial(wrapper.run, problem.query, pages, out=out))
    return calls
