"""Prefill attention of ragged chunks over the paged cache.

FlashAttention-2 (Dao, 2023) with keys found through block tables. A program takes a run of rows of one
sequence, the query heads of one KV head side by side, and finds out which by a binary search over
`query_start`: the grid is a bound that the host knows, and nothing waits for the device. Only the tiles
that the causal diagonal or the edge of a sliding window crosses are masked; tiles that no row sees are not
read. The longest programs start first.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.attention_options import AttentionOptions
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
from octavo.kernels.gpu.tuning.attention import PrefillConfig, padded_head_dim, prefill_config
from octavo.kernels.gpu.tuning.chips import COMPACT_CHIPS, capability_of


def paged_prefill(
    query: torch.Tensor,
    cache: torch.Tensor,
    block_tables: torch.Tensor,
    context_lens: torch.Tensor,
    query_start: torch.Tensor,
    out: torch.Tensor,
    max_query_len: int,
    options: AttentionOptions,
) -> None:
    """As `reference.paged_prefill`; the last axes of `query`, `out` and `block_tables` are contiguous.

    Raises:
        ValueError: They are not, or other strides of `query` or `out` are no multiples of 8.
    """
    check_strides(query, out)
    num_tokens, num_query_heads, head_dim = query.shape
    num_kv_heads = cache.shape[3]
    group = num_query_heads // num_kv_heads
    capability = capability_of(query.device)
    config = prefill_config(capability, head_dim, query.dtype, cache.dtype, max_query_len * group)
    num_seqs = context_lens.shape[0]
    constants = _constants(group, head_dim, config, options)
    # Each sequence begins a run of its own: at most one part-filled run for each.
    num_runs = num_tokens // (config.block_rows // constants["HEADS"]) + num_seqs
    head_blocks = -(-group // constants["HEADS"])
    _prefill[(num_kv_heads * head_blocks, num_runs)](
        query,
        cache,
        block_tables,
        context_lens,
        query_start,
        out,
        *query.stride()[:2],
        *out.stride()[:2],
        *cache.stride()[:4],
        block_tables.stride(0),
        num_seqs,
        options.scale,
        options.softcap or 1.0,
        options.slopes,
        options.sinks,
        PAGE=cache.shape[1],
        **constants,
        **launch_options(config.num_warps, config.num_stages),
    )


def _constants(
    group: int, head_dim: int, config: PrefillConfig, options: AttentionOptions
) -> dict[str, int]:
    return {
        "WINDOW": options.sliding_window or 0,
        "GROUP": group,
        "HEADS": min(group, config.block_rows),
        "HEAD_DIM": head_dim,
        "BLOCK_D": padded_head_dim(head_dim),
        "BLOCK_ROWS": config.block_rows,
        "TILE": config.tile,
        "HAS_SOFTCAP": options.softcap is not None,
        "HAS_SLOPES": options.slopes is not None,
        "HAS_SINKS": options.sinks is not None,
    }


@triton.jit(
    do_not_specialize=["table_stride", "num_seqs", "score_scale", "softcap"],
    # Parts of a buffer that begin anywhere.
    do_not_specialize_on_alignment=["block_tables", "context_lens", "query_start"],
)
def _prefill(
    query,
    cache,
    block_tables,
    context_lens,
    query_start,
    out,
    query_stride_token,
    query_stride_head,
    out_stride_token,
    out_stride_head,
    cache_stride_block,
    cache_stride_token,
    cache_stride_kv,
    cache_stride_head,
    table_stride,
    num_seqs,
    score_scale,
    softcap,
    slopes,
    sinks,
    PAGE: tl.constexpr,
    WINDOW: tl.constexpr,
    GROUP: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    TILE: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    HAS_SLOPES: tl.constexpr,
    HAS_SINKS: tl.constexpr,
):
    """A run of `BLOCK_ROWS // HEADS` tokens of one sequence, for `HEADS` query heads of one KV head."""
    HEAD_BLOCKS: tl.constexpr = (GROUP + HEADS - 1) // HEADS
    TOKENS: tl.constexpr = BLOCK_ROWS // HEADS
    head_block = tl.program_id(0)
    run = tl.num_programs(1) - 1 - tl.program_id(1)
    sequence = _sequence_of_run(query_start, num_seqs, run, TOKENS)
    first_token = tl.load(query_start + sequence)
    num_tokens = tl.load(query_start + sequence + 1) - first_token
    context = tl.load(context_lens + sequence)
    begin = (run - (first_token // TOKENS + sequence)) * TOKENS
    if begin >= num_tokens:
        return

    row = tl.arange(0, BLOCK_ROWS)
    dim = tl.arange(0, BLOCK_D)
    token = begin + row // HEADS
    kv_head = head_block // HEAD_BLOCKS
    head_in_group = (head_block % HEAD_BLOCKS) * HEADS + row % HEADS
    head = kv_head * GROUP + head_in_group
    own_row = (row < TOKENS * HEADS) & (token < num_tokens) & (head_in_group < GROUP)
    owned = own_row[:, None] & (dim < HEAD_DIM)[None, :]
    line = (first_token + token).to(tl.int64)
    begin_of_row = begin_of_heads(line * query_stride_token, head, query_stride_head, HEAD_DIM)
    q = tl.load(query + begin_of_row[:, None] + dim[None, :], owned, other=0.0)

    position = context - num_tokens + token
    first_position = context - num_tokens + begin
    last_position = context - num_tokens + tl.minimum(begin + TOKENS, num_tokens) - 1
    end = last_position + 1
    # Keys [full_low, full_high) are seen by every row.
    first_visible = 0
    low = 0
    full_low = 0
    full_high = (first_position + 1) // TILE * TILE
    if WINDOW > 0:
        first_visible = tl.maximum(first_position - WINDOW + 1, 0)
        low = first_visible // TILE * TILE
        full_high = tl.maximum(full_high, low)
        full_low = tl.cdiv(tl.maximum(last_position - WINDOW + 1, 0), TILE) * TILE
        full_low = tl.minimum(full_low, full_high)

    keys, values = head_of_cache(cache, kv_head, cache_stride_head, cache_stride_kv, HEAD_DIM)
    table = block_tables + sequence.to(tl.int64) * table_stride
    # A sink is a key before all others, whose value is 0.
    best = of_heads(sinks, head, own_row, HAS_SINKS, float("-inf"))
    total = tl.where(best == float("-inf"), 0.0, 1.0)
    slopes_of_rows = of_heads(slopes, head, own_row, HAS_SLOPES, 0.0)
    accumulated = tl.zeros([BLOCK_ROWS, BLOCK_D], tl.float32)
    for part in tl.static_range(3):
        # The edge of the window, what everyone sees, the diagonal.
        if part != 0 or WINDOW > 0:
            part_low = low if part == 0 else (full_low if part == 1 else full_high)
            part_high = full_low if part == 0 else (full_high if part == 1 else end)
            accumulated, best, total = _attend_tiles(
                accumulated,
                best,
                total,
                q,
                keys,
                values,
                table,
                position,
                part_low,
                part_high,
                first_visible,
                end,
                cache_stride_block,
                cache_stride_token,
                score_scale,
                softcap,
                slopes_of_rows,
                PAGE,
                WINDOW,
                HEAD_DIM,
                BLOCK_D,
                TILE,
                HAS_SOFTCAP,
                HAS_SLOPES,
                IS_MASKED=part != 1,
            )

    begin_of_row = begin_of_heads(line * out_stride_token, head, out_stride_head, HEAD_DIM)
    tl.store(
        out + begin_of_row[:, None] + dim[None, :],
        (accumulated * (1.0 / total)[:, None]).to(out.dtype.element_ty),
        owned,
    )


@triton.jit
def _sequence_of_run(query_start, num_seqs, run, TOKENS: tl.constexpr):
    """The last sequence whose first run, `query_start // TOKENS + sequence`, is not after `run`."""
    low = tl.zeros((), tl.int32)
    high = num_seqs
    while high - low > 1:
        middle = (low + high) // 2
        starts_later = tl.load(query_start + middle) // TOKENS + middle > run
        low = tl.where(starts_later, low, middle)
        high = tl.where(starts_later, middle, high)
    return low


@triton.jit
def _attend_tiles(
    accumulated,
    best,
    total,
    q,
    keys,
    values,
    table,
    query_position,
    low,
    high,
    first_visible,
    end,
    cache_stride_block,
    cache_stride_token,
    score_scale,
    softcap,
    slopes,
    PAGE: tl.constexpr,
    WINDOW: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    TILE: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    HAS_SLOPES: tl.constexpr,
    IS_MASKED: tl.constexpr,
):
    """Online softmax over the keys `[low, high)`; without a mask every row sees every one of them."""
    dim = tl.arange(0, BLOCK_D)
    in_head = dim < HEAD_DIM
    for first in range(low, high, TILE):
        position = first + tl.arange(0, TILE)
        if IS_MASKED:
            readable = (position < end) & (position >= first_visible)
            block = tl.load(table + position // PAGE, readable, other=0).to(tl.int64)
            k_mask = readable[None, :] & in_head[:, None]
            v_mask = readable[:, None] & in_head[None, :]
        else:
            block = tl.load(table + position // PAGE).to(tl.int64)
            k_mask = tl.broadcast_to(in_head[:, None], [BLOCK_D, TILE])
            v_mask = tl.broadcast_to(in_head[None, :], [TILE, BLOCK_D])
        slot = block * cache_stride_block + (position % PAGE) * cache_stride_token
        k = tl.load(keys + slot[None, :] + dim[:, None], k_mask, other=0.0)
        v = tl.load(values + slot[:, None] + dim[None, :], v_mask, other=0.0)
        products = tl.dot(q, k.to(q.dtype), input_precision="ieee")
        distance = position[None, :] - query_position[:, None]
        scores = scaled_scores(products, score_scale, softcap, HAS_SOFTCAP)
        scores = lowered_scores(scores, slopes, position - (end - 1), HAS_SLOPES)
        if IS_MASKED:
            visible = distance <= 0
            if WINDOW > 0:
                visible &= distance > -WINDOW
            scores = tl.where(visible, scores, float("-inf"))
        # A row may see nothing of a tile at the window's edge, and of none before it.
        accumulated, best, total = add_tile(
            scores, v, accumulated, best, total, DTYPE=q.dtype, MAY_HIDE_ALL=IS_MASKED
        )
    return accumulated, best, total


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    """Long and short chunks of the shapes of Llama, Qwen, Mixtral, Gemma, Phi, Danube, Falcon RW, MPT and
    gpt-oss."""
    values = torch.empty(0)
    sloped = AttentionOptions(scale=1.0, slopes=values)
    sinking = AttentionOptions(scale=1.0, sliding_window=128, sinks=values)
    plain = AttentionOptions(scale=1.0)
    windowed = AttentionOptions(scale=1.0, sliding_window=4096)
    capped = AttentionOptions(scale=1.0, sliding_window=4096, softcap=50.0)
    bf16, fp16, fp32 = torch.bfloat16, torch.float16, torch.float32
    fp8 = torch.float8_e4m3fn
    for name, group, head_dim, dtype, cache_dtype, page, max_rows, capabilities, options in (
        ("64-gqa7-page32", 7, 64, bf16, bf16, 32, 8192, (80, 90), plain),
        ("128-gqa4", 4, 128, bf16, bf16, 16, 8192, (80, 90, 120), plain),
        ("128-gqa4-short", 4, 128, bf16, bf16, 16, 64, (80, 90), plain),
        ("128-gqa7-window-softcap", 7, 128, bf16, bf16, 16, 8192, (90,), capped),
        ("256-window-softcap", 2, 256, bf16, bf16, 16, 8192, (80, 89, 90), capped),
        ("80-mha-fp16", 1, 80, fp16, fp16, 16, 8192, (80, 90), plain),
        ("120-gqa4", 4, 120, bf16, bf16, 16, 8192, (80, 90), plain),
        ("32-mha", 1, 32, bf16, bf16, 16, 8192, (80,), plain),
        ("64-gqa4-fp8-short", 4, 64, bf16, fp8, 16, 64, (89,), plain),
        ("128-gqa8-fp8", 8, 128, bf16, fp8, 16, 8192, (89, 90), plain),
        ("256-window-softcap-fp8", 2, 256, bf16, fp8, 16, 8192, (90,), capped),
        # Heads that fill little more than half of what they are padded to.
        ("136-gqa4", 4, 136, bf16, bf16, 16, 8192, (90,), plain),
        ("48-gqa4-fp32", 4, 48, fp32, fp32, 16, 8192, (90,), plain),
        ("64-gqa4-fp32", 4, 64, fp32, fp32, 16, 8192, (80,), plain),
        ("64-fp32-fp8", 4, 64, fp32, fp8, 16, 8192, (89,), plain),
        ("128-gqa5-fp32-bf16", 5, 128, fp32, bf16, 16, 8192, (89,), plain),
        ("128-window-fp32", 4, 128, fp32, fp32, 16, 8192, (80,), windowed),
        ("256-window-softcap-fp32", 2, 256, fp32, fp32, 16, 8192, (80,), capped),
        ("256-window-softcap-fp32-bf16", 2, 256, fp32, bf16, 16, 8192, (89,), capped),
        ("64-mha-slopes", 1, 64, bf16, bf16, 16, 8192, (80, 90), sloped),
        ("128-mha-slopes-fp32", 1, 128, fp32, fp32, 16, 8192, (89,), sloped),
        ("64-gqa8-window-sinks", 8, 64, bf16, bf16, 16, 8192, (80, 90), sinking),
        ("64-gqa8-sinks-fp32", 8, 64, fp32, fp32, 16, 8192, (89,), sinking),
    ):
        for capability in capabilities:
            config = prefill_config(capability, head_dim, dtype, cache_dtype, max_rows)
            yield ShippedConfiguration(
                name=name,
                kernel=_prefill,
                arguments=_argument_types(dtype, cache_dtype),
                constants=_constants(group, head_dim, config, options)
                | {"PAGE": page, **absent_values(options)},
                num_warps=config.num_warps,
                num_stages=config.num_stages,
                divisible=_STRIDES if head_dim % 16 == 0 else _STRIDES - _HEAD_STRIDES,
                capabilities=(capability,),
                shares_tiles_with=tuple(
                    chip
                    for chip in COMPACT_CHIPS
                    if capability < 90
                    and prefill_config(chip, head_dim, dtype, cache_dtype, max_rows) == config
                ),
                overlaps_copies=dtype != fp32,
                uses_wgmma=dtype != fp32,
            )


_STRIDES = frozenset(
    ["query_stride_token", "query_stride_head", "out_stride_token", "out_stride_head"]
    + ["cache_stride_block", "cache_stride_token", "cache_stride_kv", "cache_stride_head"]
)
_HEAD_STRIDES = frozenset(["query_stride_head", "out_stride_head", "cache_stride_head"])


def _argument_types(dtype: torch.dtype, cache_dtype: torch.dtype) -> dict[str, str]:
    return (
        {"query": pointer_to(dtype), "out": pointer_to(dtype), "cache": pointer_to(cache_dtype)}
        | dict.fromkeys(("slopes", "sinks"), "*fp32")
        | dict.fromkeys(("block_tables", "context_lens", "query_start"), "*i32")
        | dict.fromkeys((*_STRIDES, "table_stride", "num_seqs"), "i32")
        | dict.fromkeys(("score_scale", "softcap"), "fp32")
    )
