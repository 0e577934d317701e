"""Attention of prompt chunks to the paged cache for CPUs: blocked, causal, with an online softmax.

A piece of work is some tokens of a chunk and the query heads that share a KV head; whichever thread is free
takes the next one. Keys and values are gathered a block at a time, no further than one of the piece's
queries sees, and laid out once for all of them. All is float32 but the factors of products on CPUs that
multiply pairs of bfloat16, one by one (AVX512-BF16) or by registers of sixteen rows (AMX).
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import numba
import numpy as np
import torch

from octavo.kernels.attention_options import AttentionOptions
from octavo.kernels.cpu.attention.amx_form import by_registers
from octavo.kernels.cpu.attention.head_values import addresses_of_heads
from octavo.kernels.cpu.attention.prefill_check import LARGEST_ERROR, error_of
from octavo.kernels.cpu.attention.prefill_form import BLOCK, Form, by_vectors
from octavo.kernels.cpu.attention.prefill_layout import FLOAT32, PAIRS, Layout
from octavo.kernels.cpu.attention.prefill_queries import (
    STATE,
    make_load_queries,
    make_store_sums,
)
from octavo.kernels.cpu.attention.prefill_softmax import make_weigh
from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import TeamKernel, part, team_kernel
from octavo.kernels.cpu.compiling.team import float32_bits, run_on_team
from octavo.kernels.cpu.compiling.tiles import configure, release
from octavo.kernels.cpu.products.unpack_panels import has_pair_products
from octavo.kernels.matrix_units import SWITCH, may_use_matrix_units
from octavo.kernels.prefill_chunks import PrefillChunks

_log = logging.getLogger(__name__)

# Queries of a piece, tokens times heads, unless one token has more. What it works on stays in a core's second
# cache, and a block's layout costs little beside its products.
_QUERIES = 256
_LEAST_QUERIES = 64
# Pieces that each thread should find, lest some are done long before the others.
_PIECES_OF_THREAD = 4
_LINE = 16
"""Elements of a cache line."""


def _make_attend(form: Form) -> Any:
    """`attend(cache, pages, positions, d, memory, options)`: a piece's queries to all that they see.

    `positions` is (the first token's, tokens, heads); `memory` as `_make_memory` gives it.
    """
    layout, width, tile_rows = form.layout, form.width, form.score_rows
    packing, row_step, elements_at = layout.packing, layout.row_step, layout.elements_at
    place_values, gather, score, add_values = (
        form.place_values,
        form.gather,
        form.score,
        form.add_values,
    )
    weigh = make_weigh(layout, width)

    @part
    def attend(cache: Any, pages: Any, positions: Any, d: int, memory: Any, options: Any) -> None:
        queries, sums, state, keys, values_at, scores, weights, staging = memory
        values = place_values(values_at, d, elements_at(staging))
        position, tokens, group = positions
        window = options[2]
        elements = (d // packing + row_step - 1) // row_step * row_step
        depth = (elements + 15) // 16 * 16
        first = max(0, position - window + 1) if window > 0 else 0
        while first < position + tokens:
            n = min((first // BLOCK + 1) * BLOCK, position + tokens) - first
            gather(cache, pages, first, n, d, keys, values)
            shift = position - first
            for panel in range((tokens * group - 1) // width + 1):
                # Of the panel's queries, the places among these keys.
                lowest = shift + panel * width // group
                highest = shift + min((panel * width + width - 1) // group, tokens - 1)
                seen = min(n, highest + 1)
                if seen <= 0 or (window > 0 and n - 1 <= lowest - window):
                    continue
                own = (state, panel * STATE * width)
                columns = (queries, panel * depth * width)
                for t in range(0, seen, tile_rows):
                    rows = (keys, t * elements, elements, 1)
                    score(rows, columns, elements, own, (scores, t * width))
                hides = seen - 1 > lowest or (window > 0 and highest >= window)
                weigh(scores, weights, seen, own, (hides, shift), options)
                add_values(values, weights, seen, d, own, (sums, panel * d * width))
            first += n

    return attend


def _make_memory(layout: Layout, width: int) -> Any:
    """`memory(address, queries, d)`: what a thread works on, for so many queries.

    (`queries`, `sums`, `state`, `keys`, `values`, `scores`, `weights`, `staging`), see `load_queries`,
    `gather` and `weigh`; and `size(queries, d)`, its elements.
    """
    elements_at, packing = layout.elements_at, layout.packing

    @part
    def size(queries: int, d: int) -> int:
        depth = (d + 15) // 16 * 16
        return queries * (2 * depth + STATE) + BLOCK * (2 * d + 2 * width) + 16 * depth

    @part
    def memory(address: int, queries: int, d: int) -> Any:
        depth = (d + 15) // 16 * 16
        sums = address + 4 * queries * depth
        state = sums + 4 * queries * depth
        keys = state + 4 * queries * STATE
        values = keys + 4 * BLOCK * d
        scores = values + 4 * BLOCK * d
        # Floats are weighed in place.
        weights = scores + (4 * BLOCK * width if packing == 2 else 0)
        staging = scores + 8 * BLOCK * width
        return (
            elements_at(address),
            v.float32_at(sums),
            v.float32_at(state),
            elements_at(keys),
            elements_at(values),
            v.float32_at(scores),
            elements_at(weights),
            staging,
        )

    return memory, size


def make_prefill(form: Form) -> Any:
    """`prefill(heads, cache, out, job)`, a `part`."""
    layout, width = form.layout, form.width
    elements_at = layout.elements_at
    memory_at, size = _make_memory(layout, width)
    load_queries, store_sums = make_load_queries(layout, width), make_store_sums(width)
    attend = _make_attend(form)

    @part
    def prefill(heads: Any, cache: Any, out: Any, job: Any) -> None:
        contexts, starts, pieces = v.int64_at(job[5]), v.int64_at(job[6]), v.int64_at(job[7])
        count, max_blocks, query_heads, kv_heads = job[8], job[9], job[10], job[11]
        d, block_size, tokens_at_most = job[12], job[13], job[17]
        scale, softcap = v.float32_of(job[15]), v.float32_of(job[16])
        options = (scale, softcap, job[14], job[18] != 0, job[19] != 0)
        group = query_heads // kv_heads
        most = (tokens_at_most * group + width - 1) // width * width
        scratch = np.empty(size(most, d) + _LINE, dtype=np.float32)
        memory = memory_at((scratch.ctypes.data + 63) // 64 * 64, most, d)
        queries, sums, state, staging = memory[0], memory[1], memory[2], memory[7]
        stride = (query_heads + 2 * kv_heads) * d
        piece = v.count_up(job, 0)
        while piece < count * kv_heads:
            item, kv = piece // kv_heads * 3, piece % kv_heads
            chunk, first, tokens = pieces[item], pieces[item + 1], pieces[item + 2]
            row, head = starts[chunk] + first, kv * group * d
            position = contexts[chunk] - (starts[chunk + 1] - starts[chunk]) + first
            rows = (row * stride + head, stride, group, tokens)
            slopes = v.float32_at(job[18] + 4 * kv * group)
            sinks = v.float32_at(job[19] + 4 * kv * group)
            of_heads = (job[18] != 0, slopes, job[19] != 0, sinks)
            load_queries(heads, rows, d, elements_at(staging), queries, state, of_heads)
            for c in range((tokens * group + width - 1) // width * width * d):
                sums[c] = np.float32(0)
            table = v.int64_at(job[4] + 8 * chunk * max_blocks)
            pages = (table, block_size, 2 * kv_heads * d, kv * d, (kv_heads + kv) * d)
            attend(cache, pages, (position, tokens, group), d, memory, options)
            rows = (row * query_heads * d + head, query_heads * d, group, tokens)
            store_sums(sums, state, rows, d, v.float32_at(staging), out)
            piece = v.count_up(job, 0)
        v.keep(scratch)

    return prefill


# AVX-512 has 32 registers of a vector each; AVX2 has 16 of half a vector.
_TILE = (8, 2) if (numba.config.CPU_NAME or "").endswith("v4") else (6, 1)
_floats = make_prefill(by_vectors(FLOAT32, *_TILE))
_bfloats = make_prefill(by_vectors(PAIRS if has_pair_products() else FLOAT32, *_TILE))


@team_kernel
def _float32(address: int) -> None:
    job = v.int64_at(address)
    _floats(v.float32_at(job[1]), v.float32_at(job[2]), v.float32_at(job[3]), job)


@team_kernel
def _bfloat16(address: int) -> None:
    job = v.int64_at(address)
    _bfloats(v.bfloat16_at(job[1]), v.bfloat16_at(job[2]), v.bfloat16_at(job[3]), job)


KERNELS = {torch.float32: _float32, torch.bfloat16: _bfloat16}
BY_REGISTERS: TeamKernel | None = None
"""With AMX, of bfloat16."""
if has_pair_products():  # CPUs with AMX have AVX512-BF16 too
    _by_registers = make_prefill(by_registers())

    @team_kernel
    def _bfloat16_by_registers(address: int) -> None:
        job = v.int64_at(address)
        configure()
        _by_registers(v.bfloat16_at(job[1]), v.bfloat16_at(job[2]), v.bfloat16_at(job[3]), job)
        release()

    BY_REGISTERS = _bfloat16_by_registers


@functools.cache
def attends_by_registers() -> bool:
    """Whether prompts in bfloat16 are attended to with AMX: this process may use it, and its results for a
    small prompt are right. The log says once which it is."""
    if not may_use_matrix_units() or BY_REGISTERS is None:
        return False
    error = error_of(functools.partial(_attend, BY_REGISTERS))
    if error <= LARGEST_ERROR:
        _log.info(
            "Prompts in bfloat16 are attended to with AMX; %s=0 leaves them to torch.", SWITCH
        )
        return True
    _log.error(
        "Attention with AMX is off by %.3g on this CPU, %.3g is expected at most: torch attends for "
        "prompts in bfloat16. Please report it; %s=0 says so without trying.",
        error,
        LARGEST_ERROR,
        SWITCH,
    )
    return False


def paged_prefill(
    heads: torch.Tensor,
    cache: torch.Tensor,
    chunks: PrefillChunks,
    options: AttentionOptions,
    out: torch.Tensor,
) -> None:
    """Attends each row to its sequence's keys up to its own, which the cache holds already.

    Args:
        heads: `[tokens, query_heads + 2 * kv_heads, head_dim]`, contiguous; only queries are read.
        cache: `[num_blocks, block_size, 2, kv_heads, head_dim]`, contiguous.
        out: `[tokens, query_heads * head_dim]`; the chunks' rows are written.

    All of one dtype, float32 or bfloat16, and `head_dim` a multiple of 16.
    """
    by_registers = heads.dtype is torch.bfloat16 and attends_by_registers()
    kernel = BY_REGISTERS if by_registers else None
    _attend(kernel or KERNELS[heads.dtype], heads, cache, chunks, options, out)


def _attend(
    kernel: TeamKernel,
    heads: torch.Tensor,
    cache: torch.Tensor,
    chunks: PrefillChunks,
    options: AttentionOptions,
    out: torch.Tensor,
) -> None:
    kv_heads = cache.shape[3]
    query_heads = heads.shape[1] - 2 * kv_heads
    tokens = _tokens_of_piece(heads.shape[0] * kv_heads, query_heads // kv_heads)
    pieces = chunks.pieces(tokens)
    run_on_team(
        kernel,
        heads.data_ptr(),
        cache.data_ptr(),
        out.data_ptr(),
        chunks.block_tables.data_ptr(),
        chunks.context_lens.data_ptr(),
        chunks.query_start.data_ptr(),
        pieces.data_ptr(),
        pieces.shape[0],
        chunks.block_tables.shape[1],
        query_heads,
        kv_heads,
        heads.shape[2],
        cache.shape[1],
        options.sliding_window or 0,
        float32_bits(options.scale),
        float32_bits(options.softcap or 0.0),
        tokens,
        *addresses_of_heads(options),
    )


def _tokens_of_piece(tokens: int, group: int) -> int:
    """Of `tokens` in all KV heads together, each with `group` queries."""
    enough = torch.get_num_threads() * _PIECES_OF_THREAD
    queries = _QUERIES
    while queries > _LEAST_QUERIES and tokens * group < enough * queries:
        queries //= 2
    return max(queries // group, 1)
