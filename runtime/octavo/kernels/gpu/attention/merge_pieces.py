"""Merge of the pieces of a context: softmaxes over parts of the keys become the one over all (Flash-Decoding,
Dao et al., 2023), weighted by what each sums up to."""

from __future__ import annotations

import triton
import triton.language as tl

from octavo.kernels.gpu.attention.scores import of_heads


@triton.jit
def merged_pieces(
    partial,
    partial_lse,
    sinks,
    first_item,
    pieces,
    head,
    row_owned,
    QUERY_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    MERGED_ROWS: tl.constexpr,
    MERGED_PIECES: tl.constexpr,
    HAS_SINKS: tl.constexpr,
):
    """The output of a sequence from those of its pieces, `[MERGED_ROWS, BLOCK_D]`.

    Loads skip the first-level cache, which is not coherent between multiprocessors.
    """
    dim = tl.arange(0, BLOCK_D)
    best = of_heads(sinks, head, row_owned, HAS_SINKS, float("-inf"))
    total = tl.where(best == float("-inf"), 0.0, 1.0)
    merged = tl.zeros([MERGED_ROWS, BLOCK_D], tl.float32)
    for first in range(0, pieces, MERGED_PIECES):
        piece = first + tl.arange(0, MERGED_PIECES)
        line = (first_item + piece).to(tl.int64)[:, None] * QUERY_HEADS + head[None, :]
        present = (piece < pieces)[:, None] & row_owned[None, :]
        lse = tl.load(partial_lse + line, present, other=0.0, cache_modifier=".cg")
        lse = tl.where((piece < pieces)[:, None], lse, float("-inf"))
        outputs = tl.load(
            partial + line[:, :, None] * HEAD_DIM + dim[None, None, :],
            present[:, :, None] & (dim < HEAD_DIM)[None, None, :],
            other=0.0,
            cache_modifier=".cg",
        )
        better = tl.maximum(best, tl.max(lse, 0))
        weights = tl.exp2(lse - better[None, :])
        shrink = tl.exp2(best - better)
        total = total * shrink + tl.sum(weights, 0)
        merged = merged * shrink[:, None] + tl.sum(weights[:, :, None] * outputs, 0)
        best = better
    return merged / total[:, None]
