"""Experts that were chosen elsewhere are grouped as those that a router chooses."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from octavo.kernels.reference.experts.group import group_by_expert
from octavo.kernels.reference.experts.route import route_to_experts


@given(
    tokens=st.integers(0, 40),
    experts=st.integers(1, 9),
    wanted=st.integers(1, 4),
    block_rows=st.sampled_from([1, 4, 16]),
    live=st.none() | st.integers(0, 40),
    seed=st.integers(0, 9),
)
def test_a_routers_choice_gets_its_places(
    tokens: int, experts: int, wanted: int, block_rows: int, live: int | None, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(tokens, experts, generator=generator)
    per_token = min(wanted, experts)
    num_live = None if live is None else torch.tensor([min(live, tokens)], dtype=torch.int32)
    expected = route_to_experts(logits, per_token, num_live, block_rows)
    best = torch.topk(logits, per_token, dim=-1)
    shares = torch.softmax(best.values, dim=-1)
    found = group_by_expert(best.indices, shares, experts, num_live, block_rows)
    torch.testing.assert_close(found.shares, expected.shares)
    assert torch.equal(found.tiles, expected.tiles)
    assert found.block_rows == expected.block_rows
    placed = sum(end - first for _, first, end in expected.tiles.tolist())
    assert torch.equal(found.order[:placed], expected.order[:placed])


@given(st.integers(0, 9))
def test_a_choice_of_nobody_has_no_place_and_one_that_is_made_twice_has_two(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(-1, 5, (20, 3), generator=generator)
    found = group_by_expert(chosen, torch.ones(20, 3), 4, None, 8)
    is_one = (chosen >= 0) & (chosen < 4)
    assert torch.equal(found.shares, is_one.float())
    placed: dict[int, list[int]] = {}
    for expert, first, end in found.tiles.tolist():
        if expert >= 0:
            placed.setdefault(expert, []).extend(found.order[first:end].tolist())
    flat = chosen.view(-1)
    assert placed == {
        expert: (flat == expert).nonzero().view(-1).tolist()
        for expert in range(4)
        if (flat == expert).any()
    }
