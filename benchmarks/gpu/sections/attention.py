"""Paged decode attention alone: the share of memory bandwidth over batch, context and shape.

Several calls on disjoint blocks of a large pool are timed in turn, so many that the L2 cache does not answer.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from benchmarks.gpu.context import Context
from benchmarks.gpu.formulas import attention_bytes
from benchmarks.gpu.results import Row, SectionResult
from benchmarks.gpu.timing import device_seconds
from octavo.kernels.attention_options import AttentionOptions
from octavo.kernels.reference.attention.paged_decode import paged_decode

BLOCK_SIZE = 16
# What all sets of blocks read together is at least as many times the L2 cache.
_L2_MULTIPLE = 2
_MIN_SETS = 2


@dataclass(frozen=True, slots=True)
class Heads:
    name: str
    num_heads: int
    num_kv_heads: int
    head_dim: int
    cache_dtype: torch.dtype | None = None  # None: the queries'


SHAPES = (
    Heads("llama-3.1-8b", 32, 8, 128),
    Heads("qwen3-0.6b", 16, 8, 128),
    Heads("llama-3.1-8b fp8 cache", 32, 8, 128, torch.float8_e4m3fn),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One decode step's attention; `tables` `[sets, batch, blocks]` int32 name disjoint blocks."""

    heads: Heads
    query: torch.Tensor
    cache: torch.Tensor
    tables: torch.Tensor
    context_lens: torch.Tensor
    options: AttentionOptions


def run(context: Context) -> SectionResult:
    for heads in SHAPES:
        _sweep(context, heads)
    has_flashinfer = importlib.util.find_spec("flashinfer") is not None
    return context.result(
        "the work list, written once a step for all layers, is not timed",
        f"points of more than {context.scale.attention_pool_tokens:,} tokens are left out",
        "FlashInfer: see flashinfer_decode" if has_flashinfer else "FlashInfer: not installed",
    )


def _sweep(context: Context, heads: Heads) -> None:
    """A function of its own: with it the pool's memory is given back."""
    pool = make_pool(context, heads)
    context.emit({"shape": heads.name, "relative_error": _error(context, heads, pool)})
    for problem in problems(context, heads, pool):
        out = torch.empty_like(problem.query)
        seconds = device_seconds(octavo_calls(context, problem, out), context.device)
        context.emit(attention_row(context, problem, seconds))


def problems(context: Context, heads: Heads, pool: torch.Tensor) -> Iterator[Problem]:
    """Every point of the sweep that fits the pool."""
    for batch in context.scale.attention_batches:
        for length in context.scale.attention_contexts:
            if batch * (-(-length // BLOCK_SIZE)) <= pool.shape[0]:
                yield make_problem(context, heads, pool, batch, length)


def make_problem(
    context: Context, heads: Heads, pool: torch.Tensor, batch: int, length: int
) -> Problem:
    blocks = -(-length // BLOCK_SIZE)
    set_bytes = batch * blocks * pool[0].nbytes
    wanted = max(_MIN_SETS, -(-_L2_MULTIPLE * l2_bytes(context.device) // set_bytes))
    sets = min(wanted, pool.shape[0] // (batch * blocks))
    order = torch.randperm(pool.shape[0], device=context.device)[: sets * batch * blocks]
    return Problem(
        heads,
        torch.randn(
            batch, heads.num_heads, heads.head_dim, device=context.device, dtype=context.dtype
        ),
        pool,
        order.to(torch.int32).view(sets, batch, blocks),
        torch.full((batch,), length, dtype=torch.int32, device=context.device),
        AttentionOptions(scale=heads.head_dim**-0.5),
    )


def l2_bytes(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    size: int = torch.cuda.get_device_properties(device).L2_cache_size
    return size


def attention_row(context: Context, problem: Problem, seconds: float) -> Row:
    """One point's figures."""
    batch, length = problem.query.shape[0], int(problem.context_lens[0])
    heads = problem.heads
    moved = attention_bytes(
        batch,
        length,
        heads.num_heads,
        heads.num_kv_heads,
        heads.head_dim,
        problem.cache.element_size(),
    )
    share = None
    if context.roofline is not None:
        share = context.share(moved / context.roofline.bandwidth, seconds)
    return {
        "shape": heads.name,
        "batch": batch,
        "context": length,
        "microseconds": round(seconds * 1e6, 1),
        "gb_per_second": round(moved / seconds / 1e9, 1),
        "bandwidth_share": share,
    }


def octavo_calls(
    context: Context, problem: Problem, out: torch.Tensor
) -> list[Callable[[], object]]:
    """One call for each set of blocks, of the kernel that serves on this device."""
    attend, workspace = _kernel(context, problem)

    def call(table: torch.Tensor) -> Callable[[], object]:
        return lambda: attend(
            problem.query,
            problem.cache,
            table,
            problem.context_lens,
            out,
            workspace,
            problem.options,
        )

    return [call(table) for table in problem.tables]


def _kernel(context: Context, problem: Problem) -> tuple[Callable[..., None], object]:
    """The decode kernel and its workspace, with the step's work list written."""
    if context.device.type != "cuda":
        return paged_decode, None
    from octavo.kernels.gpu import device as triton_kernels  # needs triton

    heads = problem.heads
    workspace = triton_kernels.make_decode_workspace(
        problem.query.shape[0],
        heads.num_heads,
        heads.num_kv_heads,
        heads.head_dim,
        dtype=problem.query.dtype,
        cache_dtype=problem.cache.dtype,
        device=context.device,
    )
    triton_kernels.schedule_decode(problem.context_lens, workspace)
    return triton_kernels.paged_decode, workspace


def make_pool(context: Context, heads: Heads) -> torch.Tensor:
    """`[blocks, block_size, 2, kv_heads, head_dim]` of random numbers."""
    blocks = context.scale.attention_pool_tokens // BLOCK_SIZE
    shape = (blocks, BLOCK_SIZE, 2, heads.num_kv_heads, heads.head_dim)
    pool = torch.empty(shape, device=context.device, dtype=context.dtype).normal_()
    return pool if heads.cache_dtype is None else pool.to(heads.cache_dtype)


def _error(context: Context, heads: Heads, pool: torch.Tensor) -> float:
    """‖out − reference‖ / ‖reference‖ of a small ragged batch, over poisoned output."""
    batch, longest = 3, 3 * BLOCK_SIZE
    problem = make_problem(context, heads, pool, batch, longest)
    problem.context_lens.copy_(torch.tensor([1, BLOCK_SIZE + 1, longest]))
    out = torch.full_like(problem.query, float("nan"))
    octavo_calls(context, problem, out)[0]()
    expected = torch.empty_like(problem.query, dtype=torch.float32)
    paged_decode(
        problem.query,
        problem.cache,
        problem.tables[0],
        problem.context_lens,
        expected,
        None,
        problem.options,
    )
    difference = torch.linalg.vector_norm(out.float() - expected)
    return float(difference / torch.linalg.vector_norm(expected))
