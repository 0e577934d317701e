"""Queries of a prompt's attention: from rows to lanes, and their sums from lanes to rows of the output.

The queries of a piece are its tokens' heads, token by token. `width` of them are a panel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from octavo.kernels.cpu.attention.prefill_layout import Layout, transpose
from octavo.kernels.cpu.attention.prefill_softmax import HIDDEN
from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import part

STATE = 5
"""Numbers that a query has beside its sums; see `make_weigh`."""


def make_load_queries(layout: Layout, width: int) -> Any:
    """`load_queries(heads, rows, d, staging, queries, state, of_heads)`, a `part`: starts a piece.

    `rows` is (the first token's place, numbers from token to token, heads, tokens). `queries` are
    `[panels, depth, width]` elements, where depth is d in elements, in whole sixteens; lanes beyond the last
    query repeat it. `staging` holds sixteen rows. `of_heads` is (whether there are slopes, these from the
    first head on, whether there are sinks, these).
    """
    packing, copy_row = layout.packing, layout.copy_row

    @part
    def load_queries(
        heads: Any, rows: Any, d: int, staging: Any, queries: Any, state: Any, of_heads: Any
    ) -> None:
        at, stride, group, tokens = rows
        has_slopes, slopes, has_sinks, sinks = of_heads
        depth = (d // packing + 15) // 16 * 16
        last = tokens * group - 1
        for first in range(0, (last // width + 1) * width, 16):
            panel, lanes = first // width, first % width
            own = panel * STATE * width + lanes
            for lane in range(16):
                row = min(first + lane, last)
                place = at + row // group * stride + row % group * d
                copy_row(heads, place, d, staging, lane * depth)
                state[own + 3 * width + lane] = np.float32(row // group)
                if has_slopes:
                    state[own + 4 * width + lane] = slopes[row % group]
            v.store(state, own + width, v.splat(HIDDEN))
            v.store(state, own + 2 * width, v.splat(np.float32(0)))
            if has_sinks:
                # A key whose value is 0, and which every query has seen before all others.
                for lane in range(16):
                    state[own + width + lane] = sinks[min(first + lane, last) % group]
                v.store(state, own + 2 * width, v.splat(np.float32(1)))
            for c in range(0, depth, 16):
                target = (panel * depth + c) * width + lanes
                transpose(staging, (c, depth), queries, target, width)

    return load_queries


def make_store_sums(width: int) -> Any:
    """`store_sums(sums, state, rows, d, staging, out)`, a `part`: ends a piece.

    `sums` are `[panels, d, width]`; `rows` as in `load_queries`, of the output.
    """

    @part
    def store_sums(sums: Any, state: Any, rows: Any, d: int, staging: Any, out: Any) -> None:
        at, stride, group, tokens = rows
        count = tokens * group
        one = v.splat(np.float32(1))
        for first in range(0, count, 16):
            panel, lanes = first // width, first % width
            base = panel * d * width + lanes
            share = v.divide(one, v.load(state, (panel * STATE + 2) * width + lanes))
            for c in range(base, base + d * width, width):
                v.store(sums, c, v.multiply(v.load(sums, c), share))
            for c in range(0, d, 16):
                transpose(sums, (base + c * width, width), staging, c, d)
            for lane in range(min(16, count - first)):
                row = first + lane
                place = at + row // group * stride + row % group * d
                for c in range(0, d, 16):
                    v.store(out, place + c, v.load(staging, lane * d + c))

    return store_sums
