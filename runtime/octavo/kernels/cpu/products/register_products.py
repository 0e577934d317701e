"""Products with panels by AMX's registers of sixteen rows, for decodes and prompts in bfloat16.

A panel lies as the registers multiply pairs. Rows are copied together, a block of them for all panels, so
that a register's rows are one stream; a single row is read where it is. A row's sums are added in the same
order however many rows there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.amx_tile import STEP, WIDTH, make_amx_tile
from octavo.kernels.cpu.compiling.jit import TeamKernel, part, team_kernel
from octavo.kernels.cpu.compiling.tiles import configure, release
from octavo.kernels.cpu.products.panel_work import factors_of, make_share
from octavo.kernels.cpu.products.unpack_panels import has_pair_products

DEPTH_MULTIPLE = 2 * STEP
"""Of the weights that are taken."""

# Rows that all panels are multiplied with in turn: half of a core's second cache, which has the panel, the
# next one and the sums besides.
_BLOCK_BYTES = 2**20
_MOST_BLOCK_ROWS = 512
_GROUP = 32
"""Rows that are multiplied at once: two registers of them."""
_HALF = 16
_CHUNK = 128
"""Pairs of a panel that stay in the first cache while a block's groups take their turns."""
_TURN_BYTES = STEP * WIDTH * 4
"""That a turn of a tile's loop reads of a panel."""
_LINE_BYTES = 64
_AHEAD = 2048
"""How far behind what is read a group that takes a panel alone asks for more: elements, 8 KB."""
_LEAST_ASKING_GROUPS = 4
"""Fewer take less time than memory does: what reads ahead by itself does it better."""
_LINE = 16
"""Elements of a cache line."""


def block_rows_of(rows: int, depth: int) -> int:
    """Of a product with so many rows: blocks are as large as is good, and as one another."""
    most = min(_BLOCK_BYTES // (2 * depth) // _GROUP * _GROUP, _MOST_BLOCK_ROWS)
    blocks = -(-rows // max(most, _GROUP))
    return -(-rows // max(blocks, 1) // _GROUP) * _GROUP


@part
def _copy_rows(x: Any, rows: Any, pairs: int, sizes: Any, packed: Any) -> None:
    """`sizes` is (rows of a group, pairs of a chunk); `packed` becomes `[chunks, groups, steps, rows, STEP]`,
    with zeros where there are no rows."""
    group_rows, chunk = sizes
    groups = (rows[1] - rows[0] + group_rows - 1) // group_rows
    for place in range(groups * group_rows):
        group, own = place // group_rows, place % group_rows
        source = (rows[0] + place) * pairs
        for first in range(0, pairs, chunk):
            n = min(chunk, pairs - first)
            target = (first * groups + group * n) * group_rows + own * STEP
            for k in range(0, n, STEP):
                if rows[0] + place < rows[1]:
                    v.store(packed, target, v.load(x, source + first + k))
                else:
                    v.store(packed, target, v.splat(np.float32(0)))
                target += group_rows * STEP


@part
def _store_sums(sums: Any, rows: Any, factors: Any, target: Any) -> None:
    """Biases rows of a panel and stores them; `sums` is (pointer, place of the first row's), the rest as in
    `finish`. A row's features are stored at once: rows lie pages apart."""
    pointer, at = sums
    _, _, has_bias, bias = factors
    first, out, width = target
    is_whole = width - first >= WIDTH
    for row in range(rows[0], rows[1]):
        low, high = v.load(pointer, at), v.load(pointer, at + v.LANES)
        if has_bias:
            low = v.add(low, v.load(bias, first))
        v.store(out, row * width + first, low)
        if is_whole:
            if has_bias:
                high = v.add(high, v.load(bias, first + v.LANES))
            v.store(out, row * width + first + v.LANES, high)
        at += WIDTH


def _make_multiply_groups() -> Any:
    """`multiply_groups(rows, packed, panels, at, pairs, results)`: a panel, from `at` on, with a block's
    groups, a chunk after another. `results` is (sums, and `factors` and `target` of `make_share`)."""
    first_tile, next_tile = (make_amx_tile(2, adds=adds, is_packed=True) for adds in (False, True))
    first_asking_tile, next_asking_tile = (
        make_amx_tile(2, adds=adds, is_packed=True, asks=_LINE_BYTES) for adds in (False, True)
    )

    @part
    def multiply_groups(
        rows: Any, packed: Any, panels: Any, at: int, pairs: int, results: Any
    ) -> None:
        sums, last_factors, target = results
        groups = (rows[1] - rows[0] + _GROUP - 1) // _GROUP
        asks = (_TURN_BYTES // _LINE_BYTES + groups - 1) // groups
        for first in range(0, pairs, _CHUNK):
            n = min(_CHUNK, pairs - first)
            chunk_at = at + first * WIDTH
            # What comes next to this chunk is asked for as its turns go by.
            asked_at, asked_end = chunk_at + n * WIDTH, chunk_at + 2 * n * WIDTH
            for group in range(groups):
                x = (packed, (first * groups + group * n) * _GROUP, STEP)
                own = (sums, group * _GROUP * WIDTH)
                if groups >= _LEAST_ASKING_GROUPS and asked_at < asked_end:
                    asking = (panels, chunk_at, asked_at, asks)
                    if first == 0:
                        first_asking_tile(x, asking, n, own)
                    else:
                        next_asking_tile(x, asking, n, own)
                    asked_at += n // STEP * asks * _LINE
                elif first == 0:
                    first_tile(x, (panels, chunk_at), n, own)
                else:
                    next_tile(x, (panels, chunk_at), n, own)
                if first + n == pairs:
                    row = rows[0] + group * _GROUP
                    own_rows = (row, min(rows[1], row + _GROUP))
                    _store_sums((sums, own[1]), own_rows, last_factors, target)

    return multiply_groups


def _make_piece() -> Any:
    """See `make_share`; `factors` is (those of `finish`, sums, rows that were copied, whose they are)."""
    alone_tile = make_amx_tile(1, adds=False)
    half_tile = make_amx_tile(1, adds=False, is_packed=True)
    group_tile = make_amx_tile(2, adds=False, is_packed=True, asks=2 * _LINE_BYTES)
    multiply_groups = _make_multiply_groups()

    @part
    def piece(
        x: Any, panels: Any, panel_at: int, rows: Any, depth: int, factors: Any, target: Any
    ) -> None:
        last_factors, sums, packed, state = factors
        count, pairs = rows[1] - rows[0], depth // 2
        group_rows = _HALF if count <= _HALF else _GROUP
        if count > 1 and state[0] != rows[0]:
            # A block of one group has no use for chunks.
            chunk = _CHUNK if count > _GROUP else pairs
            _copy_rows(x, rows, pairs, (group_rows, chunk), packed)
            state[0] = rows[0]
        panel, target_of_sums = (panels, panel_at), (sums, 0)
        if count == 1:
            row = (x, rows[0] * pairs, 0)  # sixteen times itself
            alone_tile(row, panel, pairs, target_of_sums)
        elif count <= _HALF:
            half_tile((packed, 0, STEP), panel, pairs, target_of_sums)
        elif count <= _GROUP:
            asking = (panels, panel_at, panel_at + _AHEAD, _TURN_BYTES // (2 * _LINE_BYTES))
            group_tile((packed, 0, STEP), asking, pairs, target_of_sums)
        else:
            multiply_groups(rows, packed, panels, panel_at, pairs, (sums, last_factors, target))
            return
        _store_sums(target_of_sums, rows, last_factors, target)

    return piece


def make_multiply() -> Any:
    """`multiply(address)`, a `part`: the kernel between configuring the registers and releasing them."""
    share = make_share(_make_piece())

    @part
    def multiply(address: int) -> None:
        job = v.int64_at(address)
        rows, depth = job[6], job[7]
        most = (min(rows, job[10]) + _GROUP - 1) // _GROUP * _GROUP
        memory = np.empty(2 * _LINE + most * WIDTH + most * depth // 2, dtype=np.float32)
        start = (memory.ctypes.data + 63) // 64 * 64
        state = v.int64_at(start)
        state[0] = -1
        sums_at = start + 4 * _LINE
        sums, packed = v.float32_at(sums_at), v.float32_at(sums_at + 4 * most * WIDTH)
        # Pairs of bfloat16 are copied as the 32 bits that they are.
        x, panels, out = v.float32_at(job[1]), v.float32_at(job[2]), v.bfloat16_at(job[3])
        share(x, panels, out, (factors_of(job), sums, packed, state), 4, job)
        v.keep(memory)

    return multiply


BY_REGISTERS: TeamKernel | None = None
"""With AMX, of bfloat16 by panels of bfloat16 whose depth is a multiple of `DEPTH_MULTIPLE`."""
if has_pair_products():  # CPUs with AMX have AVX512-BF16 too
    _multiply = make_multiply()

    @team_kernel
    def _bfloat16_by_registers(address: int) -> None:
        configure()
        _multiply(address)
        release()

    BY_REGISTERS = _bfloat16_by_registers
