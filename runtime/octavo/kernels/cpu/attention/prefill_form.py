"""Form of a prompt's attention: which products it is made of, and what they want to lie where.

`paged_prefill` is the same in all forms. This one multiplies vectors (`prefill_tile.py`); `amx_form.py` has
the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from octavo.kernels.cpu.attention.prefill_layout import Layout, make_gather
from octavo.kernels.cpu.attention.prefill_tile import STEP, make_tile
from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import part

BLOCK = 192
"""Keys of a block: whole tiles, whichever form they have."""


@dataclass(frozen=True, slots=True)
class Form:
    """All functions are `part`s.

    Args:
        width: Queries side by side, a panel.
        score_rows: Keys whose scores are one tile; a block has whole tiles.
        place_values: `(pointer, d, staging)`: `values` as the next two take them.
        gather: See `make_gather`.
        score: `(keys, columns, elements, state, scores)`: a tile of keys times a panel of queries.
        add_values: `(values, weights, n, d, factors, sums)`: `sums * factors + values @ weights`,
            `[d, width]`. `factors` and `sums` are (pointer, place).
    """

    layout: Layout
    width: int
    score_rows: int
    place_values: Any
    gather: Any
    score: Any
    add_values: Any


def by_vectors(layout: Layout, tile_rows: int, vectors: int) -> Form:
    """With tiles that fill the CPU's registers: so many rows, and so many vectors of queries."""
    # Sixteen channels of all keys lie together where a tile is within them: what it reads is a stream then.
    is_in_panels = 16 % tile_rows == 0
    panel_elements = 16 * (BLOCK // layout.packing)

    @part
    def place_values(values: Any, d: int, staging: Any) -> Any:
        return (values, 16, panel_elements) if is_in_panels else (values, d, 16)

    return Form(
        layout,
        v.LANES * vectors,
        tile_rows,
        place_values,
        make_gather(layout),
        make_tile(tile_rows, vectors, adds=False),
        _make_add_values(layout, tile_rows, vectors),
    )


def _make_add_values(layout: Layout, tile_rows: int, vectors: int) -> Any:
    """See `Form`."""
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
