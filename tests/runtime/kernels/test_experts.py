"""The kernels of a mixture of experts, one by one, over routings that leave experts without tokens or give
one of them everything, and over steps that are padded."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.kernels.expert_gate import GELU_TANH, SILU, ExpertGate
from octavo.kernels.reference.experts import combine as reference_combine
from octavo.kernels.reference.experts import down as reference_down
from octavo.kernels.reference.experts import gate_up as reference_gate_up
from octavo.kernels.reference.experts import route as reference_route
from octavo.kernels.reference.experts.route import ExpertRouting
from tests.support.kernels.poison import poisoned_memory
from tests.support.kernels.rounding import FLOATS, assert_rounded
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
from octavo.kernels.gpu.experts import combine as experts_combine
from octavo.kernels.gpu.experts import down as experts_down
from octavo.kernels.gpu.experts import gate_up as experts_gate_up
from octavo.kernels.gpu.experts import route as experts_route
from octavo.kernels.gpu.experts.group import group_by_expert
from tests.support.kernels.router_logits import router_logits

DTYPES = st.sampled_from(FLOATS)
# gpt-oss', with a limit that some reach, and Mixtral's and Gemma's.
GATES = st.sampled_from([SILU, GELU_TANH, ExpertGate(alpha=1.702, limit=0.7, shift=1.0)])

KINDS = st.sampled_from(["spread", "ties", "one takes all", "half get none"])


def live_rows(tokens: int) -> st.SearchStrategy[torch.Tensor | None]:
    counts = st.integers(0, tokens).map(lambda live: torch.tensor([live], dtype=torch.int32))
    return st.none() | counts


@st.composite
def routings(draw: st.DrawFn, max_tokens: int = 40) -> ExpertRouting:
    experts = draw(st.sampled_from([1, 3, 8]))
    per_token = min(draw(st.sampled_from([1, 2, 4])), experts)
    tokens = draw(st.integers(0, 3) | st.sampled_from([15, 16, 17, 33, max_tokens]))
    logits = router_logits(tokens, experts, draw(KINDS))
    block_rows = draw(st.sampled_from([16, 32, 128]))
    return reference_route.route_to_experts(logits, per_token, draw(live_rows(tokens)), block_rows)


def num_experts_of(routing: ExpertRouting) -> int:
    return int(max([routing.per_token - 1, *routing.tiles[:, 0].tolist()])) + 2  # one gets nothing


def on(device: torch.device, routing: ExpertRouting) -> ExpertRouting:
    return ExpertRouting(
        routing.shares.to(device),
        routing.order.to(device),
        routing.tiles.to(device),
        routing.block_rows,
    )


def num_places(routing: ExpertRouting) -> int:
    """Those behind are in no tile."""
    return int(max([0, *routing.tiles[:, 2].tolist()]))


def assert_same_routing(got: ExpertRouting, expected: ExpertRouting) -> None:
    assert torch.equal(got.tiles, expected.tiles)
    places = num_places(expected)
    assert torch.equal(got.order[:places], expected.order[:places])
    assert got.block_rows == expected.block_rows
    torch.testing.assert_close(got.shares, expected.shares, equal_nan=True)


@settings(max_examples=30, deadline=None)
@given(st.data(), KINDS)
def test_choices_are_sorted_into_tiles(
    device: torch.device, data: st.DataObject, kind: str
) -> None:
    experts = data.draw(st.sampled_from([1, 2, 5, 8, 64, 300]), "experts")
    per_token = min(data.draw(st.sampled_from([1, 2, 4]), "per_token"), experts)
    # 300 experts leave a program 16 rows: several of them count and place together.
    tokens = data.draw(st.integers(0, 3) | st.sampled_from([16, 17, 32, 50, 130]), "tokens")
    block_rows = data.draw(st.sampled_from([16, 64]), "block_rows")
    logits = router_logits(tokens, experts, kind).to(data.draw(DTYPES)).to(device)
    live = data.draw(live_rows(tokens), "num_live")
    is_normalised = data.draw(st.booleans(), "is_normalised")
    if live is not None:
        logits[int(live) :] = torch.nan
        live = live.to(device)

    with poisoned_memory():
        got = experts_route.route_to_experts(
            logits, per_token, live, block_rows, is_normalised=is_normalised
        )

    expected = reference_route.route_to_experts(
        logits, per_token, live, block_rows, is_normalised=is_normalised
    )
    assert_same_routing(got, expected)
    count = tokens if live is None else int(live)
    assert num_places(expected) == count * per_token
    assert not got.shares[count:].any()


def test_shares_that_are_not_normalised_are_those_of_a_softmax_over_all(
    device: torch.device,
) -> None:
    logits = router_logits(40, 6, "spread").to(device)
    got = experts_route.route_to_experts(logits, 2, is_normalised=False)
    shares = torch.softmax(logits.float(), -1).topk(2).values
    torch.testing.assert_close(got.shares, shares)
    assert (got.shares.sum(-1) < 1.0).any()


@pytest.mark.parametrize("tokens", [5, 600])
def test_rows_of_nan_choose_as_many_experts_as_any_other(device: torch.device, tokens: int) -> None:
    logits = router_logits(tokens, 8, "spread").to(device)
    logits[::2] = torch.nan
    logits[1, :4] = -torch.inf
    with poisoned_memory():
        got = experts_route.route_to_experts(logits, 3)
    assert sorted(got.order.tolist()) == list(range(tokens * 3))
    used = got.tiles[got.tiles[:, 0] >= 0]
    assert (used[:, 2] - used[:, 1]).sum() == tokens * 3
    torch.testing.assert_close(got.shares[1].sum(), torch.tensor(1.0, device=device))


def test_more_experts_than_a_program_holds_are_refused(device: torch.device) -> None:
    with pytest.raises(ValueError, match="513 experts"):
        experts_route.route_to_experts(torch.zeros(1, 513, device=device), 2)


def biases(
    generator: torch.Generator, experts: int, width: int, dtype: torch.dtype
) -> torch.Tensor:
    return torch.randn(experts, width, generator=generator).to(dtype)


@settings(max_examples=20, deadline=None)
@given(
    DTYPES,
    routings(),
    GATES,
    st.booleans(),
    st.integers(1, 70) | st.sampled_from([32, 64, 130]),
    st.integers(1, 70) | st.sampled_from([32, 64, 130]),
)
def test_gate_and_up_of_each_place(
    device: torch.device,
    dtype: torch.dtype,
    routing: ExpertRouting,
    gate: ExpertGate,
    has_bias: bool,
    hidden: int,
    width: int,
) -> None:
    generator = torch.Generator().manual_seed(hidden * 31 + width)
    experts = num_experts_of(routing)
    wide = torch.randn(len(routing.shares), hidden + 3, generator=generator)
    x = wide.to(dtype).to(device)[:, :hidden]
    weight = torch.randn(experts, 2 * width, hidden, generator=generator) / hidden**0.5
    weight[-1] = torch.nan  # of the expert that nobody chose
    weight = weight.to(dtype).to(device)
    bias = biases(generator, experts, 2 * width, dtype).to(device) if has_bias else None
    places = num_places(routing)
    x[places // routing.per_token :] = torch.nan  # padding rows
    routing = on(device, routing)

    with poisoned_memory():
        got = experts_gate_up.experts_gate_up(x, weight, routing, gate=gate, bias=bias)

    exact = reference_gate_up.experts_gate_up(
        x.double(),
        weight.double(),
        routing,
        gate=gate,
        bias=None if bias is None else bias.double(),
    )
    assert got.dtype == dtype
    assert_rounded(got[:places], exact[:places])
    assert got[places:].isnan().all(), "a place without a tile was written"


@settings(max_examples=20, deadline=None)
@given(
    DTYPES,
    routings(),
    st.booleans(),
    st.integers(1, 70) | st.sampled_from([32, 64, 130]),
    st.integers(1, 70) | st.sampled_from([64, 130, 600]),
)
def test_the_way_back_of_each_choice(
    device: torch.device,
    dtype: torch.dtype,
    routing: ExpertRouting,
    has_bias: bool,
    hidden: int,
    width: int,
) -> None:
    generator = torch.Generator().manual_seed(hidden * 31 + width)
    inner = torch.randn(len(routing.order), width, generator=generator).to(dtype).to(device)
    weight = torch.randn(num_experts_of(routing), hidden, width, generator=generator) / width**0.5
    weight[-1] = torch.nan
    weight = weight.to(dtype).to(device)
    bias = biases(generator, len(weight), hidden, dtype).to(device) if has_bias else None
    places = num_places(routing)
    inner[places:] = torch.nan
    routing = on(device, routing)

    with poisoned_memory():
        got = experts_down.experts_down(inner, weight, routing, bias=bias)

    assert got.dtype == (dtype if got.shape[0] == 1 else torch.float32)
    # Live rows come first, so that their choices do.
    exact = reference_down.experts_down(
        inner.double(), weight.double(), routing, bias=None if bias is None else bias.double()
    )
    assert_rounded(got[:, :places].sum(0), exact[0, :places])
    assert got[:, places:].isnan().all(), "the choice of a padding row was written"


def test_few_rows_of_a_wide_expert_are_shared_by_more_programs(device: torch.device) -> None:
    routing = on(device, reference_route.route_to_experts(router_logits(1, 4, "spread"), 2))
    inner, weight = torch.randn(2, 1000, device=device), torch.randn(4, 40, 1000, device=device)
    got = experts_down.experts_down(inner, weight, routing)
    assert got.shape[0] > 1
    expected = reference_down.experts_down(inner, weight, routing)
    torch.testing.assert_close(got.sum(0), expected[0], rtol=1e-4, atol=1e-4)


def test_tiles_without_an_expert_write_nothing(device: torch.device) -> None:
    """A graph launches programs for as many tiles as there could be."""
    routing = ExpertRouting(
        shares=torch.ones(5, 1, device=device),
        order=torch.arange(5, dtype=torch.int32, device=device),
        tiles=torch.tensor([[-1, 0, 5]], dtype=torch.int32, device=device),
        block_rows=16,
    )
    gate_up = torch.ones(2, 2 * 8, 12, device=device)[1:]  # there is memory where -1 points to
    down = torch.ones(2, 12, 8, device=device)[1:]
    with poisoned_memory():
        inner = experts_gate_up.experts_gate_up(torch.ones(5, 12, device=device), gate_up, routing)
        parts = experts_down.experts_down(torch.ones(5, 8, device=device), down, routing)
    assert inner.isnan().all()
    assert parts.isnan().all()


@settings(max_examples=20, deadline=None)
@given(
    DTYPES,
    st.integers(0, 9),
    st.integers(0, 3),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 2, 8]),
    st.integers(1, 70) | st.sampled_from([1024, 1500]),
)
def test_a_tokens_choices_are_summed_by_their_shares(
    device: torch.device,
    dtype: torch.dtype,
    tokens: int,
    padding: int,
    per_token: int,
    parts: int,
    hidden: int,
) -> None:
    generator = torch.Generator().manual_seed(hidden)
    rows = tokens + padding
    values = torch.randn(parts, rows * per_token, hidden, generator=generator)
    values[:, tokens * per_token :] = torch.nan  # never written
    values = values.to(dtype if parts == 1 else torch.float32).to(device)
    shares = torch.rand(rows, per_token, generator=generator)
    shares[tokens:] = 0
    shares = shares.to(device)

    with poisoned_memory():
        got = experts_combine.combine_experts(values, shares, dtype)

    assert got.dtype == dtype
    # In float32, which is not rounded again.
    assert_rounded(got, reference_combine.combine_experts(values, shares, torch.float32))
    assert not got[tokens:].any()
    assert not got[:tokens].isnan().any()


def test_a_broken_row_stays_visible(device: torch.device) -> None:
    values = torch.ones(1, 4, 8, device=device)
    shares = torch.tensor([[torch.nan, torch.nan], [0.5, 0.5]], device=device)
    got = experts_combine.combine_experts(values, shares, torch.float32)
    assert got[0].isnan().all()
    assert (got[1] == 1).all()


@settings(max_examples=15, deadline=None)
@given(
    st.data(),
    st.sampled_from([(1, 1), (3, 2), (8, 2), (8, 4)]),
    st.sampled_from([1, 2, 4, 16, 24]),
)
def test_padding_rows_change_nothing_and_give_zeros(
    device: torch.device, data: st.DataObject, routed: tuple[int, int], tokens: int
) -> None:
    """All four kernels, one after another, as a recorded step of `tokens` rows runs them; of a choice that
    was made elsewhere, three."""
    experts, per_token = routed
    is_chosen_elsewhere = data.draw(st.booleans(), "chosen elsewhere")
    live = data.draw(st.integers(0, tokens), "live")
    hidden, width = data.draw(st.sampled_from([(20, 12), (20, 600)]), "hidden, width")
    generator = torch.Generator().manual_seed(tokens * 31 + live)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).div(shape[-1] ** 0.5).to(device)

    x, router = random(tokens, hidden), random(experts, hidden) * 5
    x[live:] = torch.nan
    stacks = random(experts, 2 * width, hidden), random(experts, hidden, width)
    chosen = (x[:live] @ router.T).topk(per_token).indices
    for stack in stacks:
        stack[sorted(set(range(experts)) - set(chosen.flatten().tolist()))] = torch.nan

    def run(x: torch.Tensor, num_live: torch.Tensor | None, *modules: Any) -> torch.Tensor:
        route, gate_up, down, combine = modules
        logits = x @ router.T
        if is_chosen_elsewhere and route is experts_route:
            best = logits.topk(per_token)
            shares = torch.softmax(best.values, dim=-1)
            routing = group_by_expert(best.indices, shares, experts, num_live)
        else:
            routing = route.route_to_experts(logits, per_token, num_live)
        inner = gate_up.experts_gate_up(x, stacks[0], routing)
        parts = down.experts_down(inner, stacks[1], routing)
        result: torch.Tensor = combine.combine_experts(parts, routing.shares, x.dtype)
        return result

    num_live = torch.tensor([live], dtype=torch.int32, device=device)
    with poisoned_memory():
        got = run(x, num_live, experts_route, experts_gate_up, experts_down, experts_combine)
        reference = (reference_route, reference_gate_up, reference_down, reference_combine)
        padded, alone = run(x, num_live, *reference), run(x[:live], None, *reference)
    assert not got[live:].any()
    assert not padded[live:].any()
    torch.testing.assert_close(got[:live], alone, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(padded[:live], alone, rtol=1e-5, atol=1e-5)
