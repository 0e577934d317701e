"""Form of a prompt's attention for AMX: bfloat16 by registers of sixteen rows (`amx_tile.py`).

Keys and queries lie as they do for pairs, their rows filled up with zeros to whole registers. Values come to
lie with a channel's keys one behind the other, so that sums, too, have a query in each lane.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from octavo.kernels.cpu.attention import prefill_layout as layouts
from octavo.kernels.cpu.attention.prefill_form import BLOCK, Form
from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.amx_tile import STEP, WIDTH, make_amx_tile
from octavo.kernels.cpu.compiling.jit import part

_KEYS = 2 * STEP
"""Of a step: the depth of one product of registers."""
_VALUE_ROW = BLOCK // 2
_SCORE_ROWS = 32


def by_registers() -> Form:
    """A kernel of this form configures the registers before it, and releases them after it."""
    return Form(
        LAYOUT, WIDTH, _SCORE_ROWS, _place_values, _gather, _make_score(), _make_add_values()
    )


@part
def _row_elements(d: int) -> int:
    return (d // 2 + STEP - 1) // STEP * STEP


@part
def _copy_row(source: Any, at: int, count: int, target: Any, target_at: int) -> None:
    layouts.copy_row_of_pairs(source, at, count, target, target_at)
    for c in range(target_at + count // 2, target_at + _row_elements(count)):
        target[c] = 0


LAYOUT = layouts.PAIRS.by_steps(STEP, _copy_row)


@part
def _place_values(values: Any, d: int, staging: Any) -> Any:
    """Sixteen pairs of keys are `staging`'s, `[pairs, d]`, before channels become rows."""
    return values, _VALUE_ROW, staging


@part
def _gather(cache: Any, pages: Any, first: int, n: int, d: int, keys: Any, values: Any) -> None:
    """See `make_gather`; `values` are as `_place_values` has them, `[d, keys / 2]`."""
    target, row, staging = values
    key_row, key_at, value_at = _row_elements(d), pages[3], pages[4]
    for t in range(min(n, layouts.AHEAD)):
        layouts.ask_for_token(cache, pages, first + t, d)
    for begin in range(0, n, _KEYS):
        for t in range(begin, begin + _KEYS, 2):
            at = (t - begin) // 2 * d
            if t >= n:
                for c in range(at, at + d):
                    staging[c] = 0
                continue
            for ahead in range(t + layouts.AHEAD, min(t + layouts.AHEAD + 2, n)):
                layouts.ask_for_token(cache, pages, first + ahead, d)
            one = layouts.place_of(pages, first + t)
            _copy_row(cache, one + key_at, d, keys, t * key_row)
            two: Any = np.int64(-1)
            if t + 1 < n:
                next_at = layouts.place_of(pages, first + t + 1)
                _copy_row(cache, next_at + key_at, d, keys, (t + 1) * key_row)
                two = next_at + value_at
            layouts.copy_values_of_pairs(cache, one + value_at, two, d, staging, at, v.LANES)
        for c in range(0, d, v.LANES):
            layouts.transpose(staging, (c, d), target, c * row + begin // 2, row)


def _make_score() -> Any:
    tile = make_amx_tile(_SCORE_ROWS // 16, adds=False)

    @part
    def score(keys: Any, columns: Any, elements: int, state: Any, scores: Any) -> None:
        tile((keys[0], keys[1], keys[2]), columns, elements, scores)

    return score


def _make_add_values() -> Any:
    """See `Form`."""
    tile, small_tile = make_amx_tile(2, adds=True), make_amx_tile(1, adds=True)

    @part
    def add_values(values: Any, weights: Any, n: int, d: int, factors: Any, sums: Any) -> None:
        target, row, _ = values
        steps = (n + _KEYS - 1) // _KEYS * STEP
        first, second = v.load(factors[0], factors[1]), v.load(factors[0], factors[1] + v.LANES)
        for at in range(sums[1], sums[1] + d * WIDTH, WIDTH):
            v.store(sums[0], at, v.multiply(v.load(sums[0], at), first))
            v.store(sums[0], at + v.LANES, v.multiply(v.load(sums[0], at + v.LANES), second))
        in_tiles = d // 32 * 32
        for c in range(0, in_tiles, 32):
            own = (sums[0], sums[1] + c * WIDTH)
            tile((target, c * row, row), (weights, 0), steps, own)
        if in_tiles < d:
            own = (sums[0], sums[1] + in_tiles * WIDTH)
            small_tile((target, in_tiles * row, row), (weights, 0), steps, own)

    return add_values
