"""Products of adapters: many of them, of many ranks, in one launch with rows that have none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.kernels.adapter_tiles import (
    NO_SEAT,
    block_rows_for,
    most_tiles,
    tile_section,
    tiles_of,
)
from tests.support.kernels.poison import poisoned_memory
from tests.support.kernels.rounding import FLOATS
from tests.support.kernels.seated_adapters import adapter_case, assert_added
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
from octavo.kernels.gpu import device as gpu
from octavo.kernels.reference import device as oracle

SEATS = 3
RANKS = st.sampled_from([0, 16, 32, 48])


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, Any]:
    parts = draw(st.integers(1, 3))
    rows = draw(st.integers(1, 40) | st.just(130))
    return {
        "depth": draw(st.integers(1, 300) | st.sampled_from([512, 1024])),
        "widths": tuple(draw(st.integers(1, 150)) for _ in range(parts)),
        "ranks": [tuple(draw(RANKS) for _ in range(parts)) for _ in range(SEATS)],
        "seats": draw(st.lists(st.integers(NO_SEAT, SEATS - 1), min_size=rows, max_size=rows)),
        "max_rank": 48,
        "spare_tiles": draw(st.integers(0, 2)),
    }


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(FLOATS), shapes())
def test_each_row_gets_what_its_own_adapter_adds(
    device: torch.device, dtype: torch.dtype, shape: dict[str, Any]
) -> None:
    case = adapter_case(device, dtype, **shape)
    got = case.out.clone()
    with poisoned_memory():
        gpu.adapter_expand(
            gpu.adapter_shrink(case.x, case.product, case.tiles), case.product, case.tiles, got
        )
    assert_added(got, case)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(FLOATS), shapes())
def test_the_reference_adds_the_same(dtype: torch.dtype, shape: dict[str, Any]) -> None:
    case = adapter_case(torch.device("cpu"), dtype, **shape)
    got = case.out.clone()
    with poisoned_memory():
        inner = oracle.adapter_shrink(case.x, case.product, case.tiles)
        oracle.adapter_expand(inner, case.product, case.tiles, got)
    assert_added(got, case)


@given(
    st.lists(st.integers(NO_SEAT, 5), min_size=1, max_size=300),
    st.integers(0, 40),
    st.booleans(),
)
def test_every_row_with_an_adapter_is_in_one_tile_of_it(
    seats: list[int], padding: int, is_recorded: bool
) -> None:
    num_rows = len(seats) + padding
    num_seats = max(len(set(seats) - {NO_SEAT}), 1)
    room = most_tiles(num_rows, num_seats) if is_recorded else None
    section, count = tile_section(np.array(seats), num_rows, room)
    assert count <= most_tiles(num_rows, num_seats)
    found = tiles_of(torch.from_numpy(section), count, num_rows)
    seen: list[int] = []
    for seat, first, end, _ in found.tiles.tolist():
        if seat == NO_SEAT:
            continue
        rows = found.order[first:end].tolist()
        assert 0 < len(rows) <= found.block_rows == block_rows_for(num_rows)
        assert {seats[row] for row in rows} == {seat}
        seen += rows
    assert sorted(seen) == [row for row, seat in enumerate(seats) if seat != NO_SEAT]


def test_tiles_that_a_recorded_step_has_no_room_for_are_refused() -> None:
    with pytest.raises(ValueError, match="2 tiles of adapters, and room for 1"):
        tile_section(np.array([0, 1]), 2, 1)
