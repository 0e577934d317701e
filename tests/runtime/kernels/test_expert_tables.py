"""What a step of experts launches, as the tables have it: tiles, parts and forms, without a device."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.kernels.reference.experts import route as reference_route
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
from octavo.kernels.gpu.tuning.experts import (
    block_rows_for,
    down_parts,
    experts_config,
    route_tile,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 200), min_size=1, max_size=12), st.sampled_from([1, 16, 128]))
def test_the_bound_on_tiles_holds_and_is_reached(counts: list[int], block_rows: int) -> None:
    bound = reference_route.num_tiles(sum(counts), len(counts), block_rows)
    assert sum(-(-count // block_rows) for count in counts) <= bound
    ones = [1] * (len(counts) - 1)  # the worst case: one place in each tile but one
    most = reference_route.num_tiles(len(ones) + 3 * block_rows, len(counts), block_rows)
    assert most >= len(ones) + 3


def test_the_tables_hold_every_chip_and_size() -> None:
    for tokens, experts, per_token in ((1, 8, 2), (64, 8, 2), (8192, 8, 2), (8192, 128, 8)):
        rows = block_rows_for(tokens, experts, per_token)
        for capability in (80, 86, 89, 90, 100, 120):
            for dtype in (torch.bfloat16, torch.float16, torch.float32):
                assert experts_config(capability, dtype, rows).block_rows == rows


MIXTRAL = (8, 4096, 14336)


def parts_on_hopper(tokens: int, shape: tuple[int, int, int] = MIXTRAL) -> int:
    config = experts_config(90, torch.bfloat16, block_rows_for(tokens, shape[0], 2))
    return down_parts(config, 132, tokens, 2, shape)


def test_the_inner_axis_is_split_only_where_multiprocessors_would_idle() -> None:
    # One token's two experts fill 128 programs, one for each of 132 multiprocessors.
    assert parts_on_hopper(1) == 2
    assert [parts_on_hopper(tokens) for tokens in (4, 16, 64, 256, 8192)] == [1] * 5
    assert parts_on_hopper(1, (8, 512, 14336)) == 8
    assert parts_on_hopper(1, (8, 64, 256)) == 1  # too little to share


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 20000), st.sampled_from([(8, 2), (6, 3), (64, 6), (128, 8)]))
def test_steps_of_powers_of_two_compile_what_any_step_runs(
    tokens: int, routed: tuple[int, int]
) -> None:
    experts, per_token = routed

    def form(tokens: int) -> tuple[object, ...]:
        rows = block_rows_for(tokens, experts, per_token)
        tile = route_tile(tokens, experts)
        config = experts_config(90, torch.bfloat16, rows)
        parts = down_parts(config, 132, tokens, per_token, (experts, 2048, 1408))
        return rows, tile, tokens <= tile.rows, parts

    assert form(tokens) == form(1 << (tokens - 1).bit_length())
