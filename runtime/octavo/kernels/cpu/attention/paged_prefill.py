"""Attention of prompt chunks to the paged cache for CPUs: blocked, causal, with an online softmax.

A piece of work is some tokens of a chunk and the query heads that share a KV head; whichever thread is free
takes the next one. Keys and values are gathered a block at a time, no further than one of the piece's
queries sees, and laid out once for all of them. All is float32 but the factors of products on CPUs that
multiply pairs of bfloat16.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch

from octavo.kernels.attention_options import AttentionOptions
from octavo.kernels.cpu.attention.head_values import addresses_of_heads
from octavo.kernels.cpu.attention.prefill_layout import FLOAT32, PAIRS, Layout, make_gather
from octavo.kernels.cpu.attention.prefill_queries import (
    STATE,
    make_load_queries,
    make_store_sums,
)
from octavo.kernels.cpu.attention.prefill_softmax import make_weigh
from octavo.kernels.cpu.attention.prefill_tile import STEP, make_tile
from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import part, team_kernel
from octavo.kernels.cpu.compiling.team import float32_bits, run_on_team
from octavo.kernels.cpu.products.unpack_panels import has_pair_products
from octavo.kernels.prefill_chunks import PrefillChunks

# Keys of a block: whole tiles, whichever form they have.
_BLOCK = 192
# Queries of a piece, tokens times heads, unless one token has more. What it works on stays in a core's second
# cache, and a block's layout costs little beside its products.
_QUERIES = 256
_LEAST_QUERIES = 64
# Pieces that each thread should find, lest some are done long before the others.
_PIECES_OF_THREAD = 4
_LINE = 16
"""Elements of a cache line."""


def _make_add_values(layout: Layout, tile_rows: int, vectors: int) -> Any:
    """`add_values(values, weights, n, d, factors, sums)`: `sums * factors + values @ weights`, `[d, width]`.

    `values` are as `gather` leaves them; `factors` and `sums` are (pointer, place).
    """
    tile = make_tile(tile_rows, vectors, adds=True)
    small_tile = make_tile(4, vectors, adds=True)
    depth, width = STEP * layout.packing, v.LANES * vectors

    @part
    def add_values(values: Any, weights: Any, n: int, d: int, factors: Any, sums: Any) -> None:
        steps = (n + depth - 1) // depth * STEP
        pointer, stride, sixteen = values
        in_tiles = d // tile_rows * tile_rows
        while (d - in_tiles) % 4 != 0:
            in_tiles -= tile_rows
        for c in range(0, in_tiles, tile_rows):
            target = (sums[0], sums[1] + c * width)
            rows = (pointer, c // 16 * sixteen + c % 16, 1, stride)
            tile(rows, (weights, 0), steps, factors, target)
        for c in range(in_tiles, d, 4):
            target = (sums[0], sums[1] + c * width)
            rows = (pointer, c // 16 * sixteen + c % 16, 1, stride)
            small_tile(rows, (weights, 0), steps, factors, target)

    return add_values


def _make_attend(layout: Layout, tile_rows: int, vectors: int) -> Any:
    """`attend(cache, pages, positions, d, memory, options)`: a piece's queries to all that they see.

    `positions` is (the first token's, tokens, heads); `memory` as `_make_memory` gives it.
    """
    packing, width = layout.packing, v.LANES * vectors
    # Sixteen channels of all keys lie together where a tile is within them: what it reads is a stream then.
    is_in_panels = 16 % tile_rows == 0
    panel_elements = 16 * (_BLOCK // packing)
    gather, weigh = make_gather(layout), make_weigh(layout, width)
    score_tile = make_tile(tile_rows, vectors, adds=False)
    add_values = _make_add_values(layout, tile_rows, vectors)

    @part
    def attend(cache: Any, pages: Any, positions: Any, d: int, memory: Any, options: Any) -> None:
        queries, sums, state, keys, values_at, scores, weights, _ = memory
        values = (values_at, 16, panel_elements) if is_in_panels else (values_at, d, 16)
        position, tokens, group = positions
        window = options[2]
        elements = d // packing
        depth = (elements + 15) // 16 * 16
        first = max(0, position - window + 1) if window > 0 else 0
        while first < position + tokens:
            n = min((first // _BLOCK + 1) * _BLOCK, position + tokens) - first
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
                    score_tile(rows, columns, elements, own, (scores, t * width))
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
        return queries * (2 * depth + STATE) + _BLOCK * (2 * d + 2 * width) + 16 * depth

    @part
    def memory(address: int, queries: int, d: int) -> Any:
        depth = (d + 15) // 16 * 16
        sums = address + 4 * queries * depth
        state = sums + 4 * queries * depth
        keys = state + 4 * queries * STATE
        values = keys + 4 * _BLOCK * d
        scores = values + 4 * _BLOCK * d
        # Floats are weighed in place.
        weights = scores + (4 * _BLOCK * width if packing == 2 else 0)
        staging = scores + 8 * _BLOCK * width
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


def make_prefill(layout: Layout, tile_rows: int, vectors: int) -> Any:
    """`prefill(heads, cache, out, job)`, a `part`, with tiles that fill the CPU's registers."""
    width = v.LANES * vectors
    elements_at = layout.elements_at
    memory_at, size = _make_memory(layout, width)
    load_queries, store_sums = make_load_queries(layout, width), make_store_sums(width)
    attend = _make_attend(layout, tile_rows, vectors)

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
_floats = make_prefill(FLOAT32, *_TILE)
_bfloats = make_prefill(PAIRS if has_pair_products() else FLOAT32, *_TILE)


@team_kernel
def _float32(address: int) -> None:
    job = v.int64_at(address)
    _floats(v.float32_at(job[1]), v.float32_at(job[2]), v.float32_at(job[3]), job)


@team_kernel
def _bfloat16(address: int) -> None:
    job = v.int64_at(address)
    _bfloats(v.bfloat16_at(job[1]), v.bfloat16_at(job[2]), v.bfloat16_at(job[3]), job)


KERNELS = {torch.float32: _float32, torch.bfloat16: _bfloat16}


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
    kv_heads = cache.shape[3]
    query_heads = heads.shape[1] - 2 * kv_heads
    tokens = _tokens_of_piece(heads.shape[0] * kv_heads, query_heads // kv_heads)
    pieces = chunks.pieces(tokens)
    run_on_team(
        KERNELS[heads.dtype],
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
