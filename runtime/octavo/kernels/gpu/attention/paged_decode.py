"""Decode attention over the paged cache: contexts are split so that all multiprocessors read equally.

Flash-Decoding (Dao et al., 2023) with a work list. Once per step `schedule_decode` cuts all contexts of the
batch into pieces of one length and writes them down as a list; each layer's `paged_decode` is one launch of
as many programs as the list may be long, for each group of heads that share keys. A sequence in one piece
is written to the output directly; of several, the program that finishes last merges them, so that no second
launch is needed. The grid depends on shapes alone and nothing waits for the device: a CUDA graph holds both.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.attention_options import AttentionOptions
from octavo.kernels.gpu.attention.decode_schedule import BLOCK_ROWS, DecodeWorkspace
from octavo.kernels.gpu.attention.merge_pieces import merged_pieces
from octavo.kernels.gpu.attention.scores import (
    absent_values,
    add_tile,
    begin_of_heads,
    check_strides,
    head_of_cache,
    lowered_scores,
    of_heads,
    scaled_scores,
)
from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options, pointer_to
from octavo.kernels.gpu.tuning.attention import DecodeConfig, decode_config, padded_head_dim
from octavo.kernels.gpu.tuning.chips import COMPACT_CHIPS


def paged_decode(
    query: torch.Tensor,
    cache: torch.Tensor,
    block_tables: torch.Tensor,
    context_lens: torch.Tensor,
    out: torch.Tensor,
    workspace: DecodeWorkspace,
    options: AttentionOptions,
) -> None:
    """As `reference.paged_decode`, after `schedule_decode` of the same `context_lens` and window.

    The last axes of `query`, `out` and `block_tables` are contiguous.

    Raises:
        ValueError: They are not, or other strides of `query` or `out` are no multiples of 8.
    """
    check_strides(query, out)
    num_seqs, num_query_heads, head_dim = query.shape
    num_kv_heads = cache.shape[3]
    group = num_query_heads // num_kv_heads
    head_blocks = -(-group // BLOCK_ROWS)
    config = workspace.config
    _decode[(num_kv_heads * head_blocks, num_seqs + workspace.target_items)](
        query,
        cache,
        block_tables,
        context_lens,
        workspace.items,
        out,
        workspace.partial,
        workspace.partial_lse,
        workspace.arrivals,
        *query.stride()[:2],
        *out.stride()[:2],
        *cache.stride()[:4],
        block_tables.stride(0),
        options.scale,
        options.softcap or 1.0,
        options.slopes,
        options.sinks,
        PAGE=cache.shape[1],
        **_constants(group, num_query_heads, head_dim, config, options),
        **launch_options(config.num_warps, config.num_stages),
    )


def _constants(
    group: int, num_query_heads: int, head_dim: int, config: DecodeConfig, options: AttentionOptions
) -> dict[str, int | bool]:
    rows = min(group, BLOCK_ROWS)
    padded = padded_head_dim(head_dim)
    merged_rows = 1 << (rows - 1).bit_length()
    return {
        "WINDOW": options.sliding_window or 0,
        "GROUP": group,
        "QUERY_HEADS": num_query_heads,
        "HEAD_DIM": head_dim,
        "BLOCK_D": padded,
        "BLOCK_ROWS": BLOCK_ROWS,
        "TILE": config.tile,
        "MERGED_ROWS": merged_rows,
        # Pieces merged at a time: at most 32 values a thread in flight.
        "MERGED_PIECES": max(min(32 * 128 // (merged_rows * padded), 32), 1),
        "HAS_SOFTCAP": options.softcap is not None,
        "HAS_SLOPES": options.slopes is not None,
        "HAS_SINKS": options.sinks is not None,
    }


@triton.jit(
    # The tables' width follows from the context that fits the memory, known after a profile run alone.
    do_not_specialize=["table_stride", "score_scale", "softcap"],
    # Parts of a buffer that begin anywhere.
    do_not_specialize_on_alignment=["block_tables", "context_lens"],
)
def _decode(
    query,
    cache,
    block_tables,
    context_lens,
    items,
    out,
    partial,
    partial_lse,
    arrivals,
    query_stride_seq,
    query_stride_head,
    out_stride_seq,
    out_stride_head,
    cache_stride_block,
    cache_stride_token,
    cache_stride_kv,
    cache_stride_head,
    table_stride,
    score_scale,
    softcap,
    slopes,
    sinks,
    PAGE: tl.constexpr,
    WINDOW: tl.constexpr,
    GROUP: tl.constexpr,
    QUERY_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    TILE: tl.constexpr,
    MERGED_ROWS: tl.constexpr,
    MERGED_PIECES: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    HAS_SLOPES: tl.constexpr,
    HAS_SINKS: tl.constexpr,
):
    """One piece of one sequence's context, for up to 16 query heads of one KV head."""
    HEAD_BLOCKS: tl.constexpr = (GROUP + BLOCK_ROWS - 1) // BLOCK_ROWS
    head_block = tl.program_id(0)
    item = tl.program_id(1)
    sequence = tl.load(items + item * 8)
    if sequence < 0:
        return
    begin = tl.load(items + item * 8 + 1)
    end = tl.load(items + item * 8 + 2)
    first_item = tl.load(items + item * 8 + 3)
    pieces = tl.load(items + item * 8 + 4)
    context = tl.load(context_lens + sequence)

    kv_head = head_block // HEAD_BLOCKS
    first_row = (head_block % HEAD_BLOCKS) * BLOCK_ROWS
    row = first_row + tl.arange(0, BLOCK_ROWS)
    head = kv_head * GROUP + row
    dim = tl.arange(0, BLOCK_D)
    owned = (row < GROUP)[:, None] & (dim < HEAD_DIM)[None, :]
    token = sequence.to(tl.int64) * query_stride_seq
    begin_of_row = begin_of_heads(token, head, query_stride_head, HEAD_DIM)
    q = tl.load(query + begin_of_row[:, None] + dim[None, :], owned, other=0.0)

    keys, values = head_of_cache(cache, kv_head, cache_stride_head, cache_stride_kv, HEAD_DIM)
    table = block_tables + sequence.to(tl.int64) * table_stride
    accumulated, best, total = _attend_piece(
        q,
        keys,
        values,
        table,
        begin,
        end,
        context,
        cache_stride_block,
        cache_stride_token,
        score_scale,
        softcap,
        of_heads(slopes, head, row < GROUP, HAS_SLOPES, 0.0),
        PAGE,
        WINDOW,
        HEAD_DIM,
        BLOCK_D,
        BLOCK_ROWS,
        TILE,
        HAS_SOFTCAP,
        HAS_SLOPES,
    )
    if HAS_SINKS:  # noqa: SIM102 (the outer one is decided when it is compiled)
        if pieces == 1:
            # Of several pieces it is the merge that knows of a sink.
            sink = of_heads(sinks, head, row < GROUP, HAS_SINKS, float("-inf"))
            total += tl.exp2(sink - best)
    if begin < end:
        accumulated = accumulated / total[:, None]
    target = sequence.to(tl.int64) * out_stride_seq
    if pieces == 1:
        begin_of_row = begin_of_heads(target, head, out_stride_head, HEAD_DIM)
        tl.store(
            out + begin_of_row[:, None] + dim[None, :],
            accumulated.to(out.dtype.element_ty),
            owned,
        )
    else:
        line = item.to(tl.int64) * QUERY_HEADS + head
        tl.store(partial + line[:, None] * HEAD_DIM + dim[None, :], accumulated, owned)
        tl.store(partial_lse + line, best + tl.log2(total), row < GROUP)
        # All threads' stores come before the count, and the count before the loads of who comes last.
        tl.debug_barrier()
        arrival = arrivals + sequence * tl.num_programs(0) + head_block
        arrived = tl.atomic_add(arrival, 1, sem="acq_rel", scope="gpu")
        if arrived == pieces - 1:
            tl.store(arrival, 0)
            merged_row = tl.arange(0, MERGED_ROWS)
            merged_head = kv_head * GROUP + first_row + merged_row
            row_owned = (merged_row < BLOCK_ROWS) & (first_row + merged_row < GROUP)
            merged = merged_pieces(
                partial,
                partial_lse,
                sinks,
                first_item,
                pieces,
                merged_head,
                row_owned,
                QUERY_HEADS,
                HEAD_DIM,
                BLOCK_D,
                MERGED_ROWS,
                MERGED_PIECES,
                HAS_SINKS,
            )
            begin_of_merged = begin_of_heads(target, merged_head, out_stride_head, HEAD_DIM)
            tl.store(
                out + begin_of_merged[:, None] + dim[None, :],
                merged.to(out.dtype.element_ty),
                row_owned[:, None] & (dim < HEAD_DIM)[None, :],
            )


@triton.jit
def _attend_piece(
    q,
    keys,
    values,
    table,
    begin,
    end,
    context,
    cache_stride_block,
    cache_stride_token,
    score_scale,
    softcap,
    slopes,
    PAGE: tl.constexpr,
    WINDOW: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    TILE: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    HAS_SLOPES: tl.constexpr,
):
    """Online softmax over the keys `[begin, end)`: sums of values, largest scores, sums of weights."""
    dim = tl.arange(0, BLOCK_D)
    best = tl.full([BLOCK_ROWS], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_ROWS], tl.float32)
    accumulated = tl.zeros([BLOCK_ROWS, BLOCK_D], tl.float32)
    for first in range(begin, end, TILE):
        position = first + tl.arange(0, TILE)
        visible = position < end
        if WINDOW > 0:
            visible &= position >= context - WINDOW
        block = tl.load(table + position // PAGE, visible, other=0).to(tl.int64)
        token = block * cache_stride_block + (position % PAGE) * cache_stride_token
        k = tl.load(
            keys + token[None, :] + dim[:, None],
            visible[None, :] & (dim < HEAD_DIM)[:, None],
            other=0.0,
        )
        v = tl.load(
            values + token[:, None] + dim[None, :],
            visible[:, None] & (dim < HEAD_DIM)[None, :],
            other=0.0,
        )
        products = tl.dot(q, k.to(q.dtype), input_precision="ieee")
        scores = scaled_scores(products, score_scale, softcap, HAS_SOFTCAP)
        scores = lowered_scores(scores, slopes, position - (context - 1), HAS_SLOPES)
        scores = tl.where(visible[None, :], scores, float("-inf"))
        # Every tile of the list holds a visible key.
        accumulated, best, total = add_tile(
            scores, v, accumulated, best, total, DTYPE=q.dtype, MAY_HIDE_ALL=False
        )
    return accumulated, best, total


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    """Shapes of Llama, Qwen, Mixtral, Gemma, Phi, Danube, Falcon RW, MPT and gpt-oss."""
    values = torch.empty(0)
    sloped = AttentionOptions(scale=1.0, slopes=values)
    sinking = AttentionOptions(scale=1.0, sliding_window=128, sinks=values)
    plain = AttentionOptions(scale=1.0)
    capped = AttentionOptions(scale=1.0, sliding_window=4096, softcap=50.0)
    bf16, fp16, fp32 = torch.bfloat16, torch.float16, torch.float32
    fp8 = torch.float8_e4m3fn
    for name, heads, kv_heads, head_dim, dtype, cache_dtype, page, capabilities, options in (
        ("64-gqa7-page32", 14, 2, 64, bf16, bf16, 32, (80, 90), plain),
        ("128-gqa4", 32, 8, 128, bf16, bf16, 16, (80, 90), plain),
        ("256-window-softcap", 16, 8, 256, bf16, bf16, 16, (80, 90), capped),
        ("80-mha-fp16", 32, 32, 80, fp16, fp16, 16, (80, 90), plain),
        ("120-gqa4", 32, 8, 120, bf16, bf16, 16, (80, 90), plain),
        ("16-gqa4", 16, 4, 16, bf16, bf16, 16, (90,), plain),
        ("64-gqa4-fp8", 32, 8, 64, bf16, fp8, 16, (90,), plain),
        ("128-gqa8-fp8", 64, 8, 128, bf16, fp8, 16, (89, 90), plain),
        ("64-fp32-fp8", 32, 8, 64, fp32, fp8, 16, (89,), plain),
        ("128-gqa5-fp32-bf16", 40, 8, 128, fp32, bf16, 16, (89,), plain),
        ("256-window-softcap-fp32-bf16", 16, 8, 256, fp32, bf16, 16, (89,), capped),
        ("64-mha-slopes", 32, 32, 64, bf16, bf16, 16, (80, 90), sloped),
        ("128-mha-slopes-fp32", 32, 32, 128, fp32, fp32, 16, (89,), sloped),
        ("64-gqa8-window-sinks", 64, 8, 64, bf16, bf16, 16, (80, 90), sinking),
        ("64-gqa8-sinks-fp32", 64, 8, 64, fp32, fp32, 16, (89,), sinking),
    ):
        for capability in capabilities:
            config = decode_config(capability, head_dim, dtype, cache_dtype)
            yield ShippedConfiguration(
                name=name,
                kernel=_decode,
                arguments=_argument_types(dtype, cache_dtype),
                constants=_constants(heads // kv_heads, heads, head_dim, config, options)
                | {"PAGE": page, **absent_values(options)},
                num_warps=config.num_warps,
                num_stages=config.num_stages,
                divisible=_STRIDES if head_dim % 16 == 0 else _STRIDES - _HEAD_STRIDES,
                capabilities=(capability,),
                shares_tiles_with=tuple(
                    chip
                    for chip in COMPACT_CHIPS
                    if decode_config(chip, head_dim, dtype, cache_dtype) == config
                ),
                overlaps_copies=dtype != fp32,
            )


_STRIDES = frozenset(
    ["query_stride_seq", "query_stride_head", "out_stride_seq", "out_stride_head"]
    + ["cache_stride_block", "cache_stride_token", "cache_stride_kv", "cache_stride_head"]
)
_HEAD_STRIDES = frozenset(["query_stride_head", "out_stride_head", "cache_stride_head"])


def _argument_types(dtype: torch.dtype, cache_dtype: torch.dtype) -> dict[str, str]:
    return (
        {"query": pointer_to(dtype), "out": pointer_to(dtype), "cache": pointer_to(cache_dtype)}
        | dict.fromkeys(("slopes", "sinks"), "*fp32")
        | dict.fromkeys(("block_tables", "context_lens", "items", "arrivals"), "*i32")
        | dict.fromkeys(("partial", "partial_lse"), "*fp32")
        | dict.fromkeys((*_STRIDES, "table_stride"), "i32")
        | dict.fromkeys(("score_scale", "softcap"), "fp32")
    )
