"""Work on panels. How threads share a product with a weight in panels, for one row as for thousands.

A product with few rows takes as long as its weight takes to be read. So a panel is read once for up to
eight rows, and each thread reads through a stretch of panels of its own, which memory serves faster than
threads that take turns (a quarter with int4). One that is done helps the others: a neighbour on one core
delays nobody but itself.
"""

from __future__ import annotations

from typing import Any

from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import part
from octavo.kernels.cpu.products.weight_panels import PANEL

TILE_ROWS = 8
COUNTER_SPACING = 8
"""Numbers of a job between two lanes' counters, a cache line."""
# Where the lanes' counters lie in a job, behind the numbers that `PanelLinear` gives it.
_COUNTERS = 14


def make_share(piece: Any) -> Any:
    """`share(x, panels, out, factors, element, job)`: all pieces (panels times blocks of rows), in as many
    lanes as there are threads.

    A thread works through a lane of its own, whose panels lie one behind the other, and then helps with
    what is left of the others'. `piece(x, panels, panel_at, rows, depth, factors, target)`, a `part`,
    multiplies rows (first and end) with one panel; `element` is the size in bytes of what `panels` points
    to, and `target` is (the panel's first output feature, the output, its width).
    """

    @part
    def share(x: Any, panels: Any, out: Any, factors: Any, element: int, job: Any) -> None:
        rows, depth, width, lanes = job[6], job[7], job[8], job[11]
        stride, block_rows = job[9] // element, job[10]
        count = (width + PANEL - 1) // PANEL
        pieces = count * ((rows + block_rows - 1) // block_rows)
        own = v.count_up(job, 0)
        for turn in range(lanes):
            lane = (own + turn) % lanes
            first, end = pieces * lane // lanes, pieces * (lane + 1) // lanes
            counter = _COUNTERS + lane * COUNTER_SPACING
            place = first + v.count_up(job, counter)
            while place < end:
                panel = place % count
                row = place // count * block_rows
                block = (row, min(rows, row + block_rows))
                target = (panel * PANEL, out, width)
                piece(x, panels, panel * stride, block, depth, factors, target)
                place = first + v.count_up(job, counter)

    return share


@part
def finish(sums: Any, row: int, rows: int, factors: Any, target: Any) -> None:
    """Scales and biases `rows` rows from `row` of a panel, and stores them.

    `factors` is (whether there are scales, scales, whether there is a bias, bias), `target` as in
    `make_share`.
    """
    has_scales, scales, has_bias, bias = factors
    first, out, width = target
    for c in range(0, min(PANEL, width - first), v.LANES):
        for r in range(rows):
            value = v.load(sums, r * PANEL + c)
            if has_scales:
                value = v.multiply(value, v.load(scales, first + c))
            if has_bias:
                value = v.add(value, v.load(bias, first + c))
            v.store(out, (row + r) * width + first + c, value)


@part
def factors_of(job: Any) -> Any:
    """What `finish` scales and biases with."""
    return job[4] != 0, v.float32_at(job[4]), job[5] != 0, v.float32_at(job[5])
