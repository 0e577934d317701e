from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from octavo.sampling.host.sampler import Sampler
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from tests.support.runtime.exact_distribution import exact_distribution


def state(
    seed: int | None = None,
    prompt: Sequence[int] = (),
    output: Sequence[int] = (),
    **params: Any,
) -> SamplingState:
    return SamplingState(SamplingParams(**params), seed, prompt, output)


def tokens(logits: torch.Tensor, states: Sequence[SamplingState], seed: int = 0) -> list[int]:
    sampled = Sampler(seed).sample(logits, list(range(len(states))), states)
    return [token.token_id for token in sampled]


CASES: list[dict[str, Any]] = [
    {},
    {"temperature": 0.5},
    {"temperature": 2.5},
    {"top_k": 3},
    {"top_p": 0.6},
    {"min_p": 0.2},
    {"top_k": 5, "top_p": 0.7, "temperature": 1.7},
    {"top_k": 6, "top_p": 0.95, "min_p": 0.05, "temperature": 3.0},
]


@pytest.mark.parametrize("is_seeded", [True, False])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_samples_follow_the_exact_distribution(case: dict[str, Any], is_seeded: bool) -> None:
    torch.manual_seed(1)
    logits = torch.randn(12) * 2
    expected = exact_distribution(logits.numpy(), SamplingParams(**case))
    draws = 6000
    states = [
        state(seed=10_000 + i if is_seeded else None, output=[0] * (i % 7), **case)
        for i in range(draws)
    ]
    drawn = tokens(logits.expand(draws, -1), states, seed=3)
    counts = np.bincount(drawn, minlength=12)
    assert counts[expected == 0].sum() == 0
    likely = expected > 0
    chi_square = float(
        ((counts[likely] - draws * expected[likely]) ** 2 / (draws * expected[likely])).sum()
    )
    freedom = int(likely.sum()) - 1
    # Mean of chi-square is its freedom, its standard deviation sqrt(2 freedom); 5 of them is 1 in 10⁵.
    assert chi_square < freedom + 5 * math.sqrt(2 * max(freedom, 1))


@pytest.mark.parametrize(
    "case",
    [
        {"top_p": 0.9999},
        {"top_k": 700},
        {"top_k": 700, "top_p": 0.9},
        {"min_p": 1e-4},
        {"top_p": 0.3},
    ],
    ids=str,
)
def test_filters_that_reach_beyond_the_ranked_candidates_stay_exact(case: dict[str, Any]) -> None:
    torch.manual_seed(2)
    logits = torch.randn(1000) * 0.5  # so flat that hundreds of tokens are needed
    expected = exact_distribution(logits.numpy(), SamplingParams(**case))
    draws = 4000
    drawn = tokens(logits.expand(draws, -1), [state(seed=i, **case) for i in range(draws)])
    counts = np.bincount(drawn, minlength=1000)
    assert counts[expected == 0].sum() == 0
    # Pooled into 20 groups of like probability, so that each has enough expected draws.
    order = np.argsort(-expected, kind="stable")[: int((expected > 0).sum())]
    groups = np.array_split(order, 20)
    want = np.array([expected[g].sum() * draws for g in groups])
    got = np.array([counts[g].sum() for g in groups])
    assert float(((got - want) ** 2 / want).sum()) < 19 + 5 * math.sqrt(38)


def test_a_seeded_row_draws_the_same_whatever_else_is_in_the_batch() -> None:
    torch.manual_seed(3)
    mine = torch.randn(500)
    cases: list[dict[str, Any]] = [{}, {"top_p": 0.9}, {"top_k": 20, "temperature": 0.7}]
    for params in cases:
        seeded = state(seed=42, output=[1, 2, 3], **params)
        alone = tokens(mine[None], [seeded])[0]
        for neighbours in (
            [state()],
            [state(top_k=400), state(temperature=0.0), state(seed=42, output=[1])],
        ):
            logits = torch.cat([torch.randn(len(neighbours), 500), mine[None]])
            assert tokens(logits, [*neighbours, seeded], seed=9)[-1] == alone


def test_the_positions_of_one_seeded_sequence_draw_anew() -> None:
    logits = torch.zeros(1, 8)
    drawn = [tokens(logits, [state(seed=5, output=[0] * n)])[0] for n in range(800)]
    counts = np.bincount(drawn, minlength=8)
    assert float(((counts - 100) ** 2 / 100).sum()) < 7 + 5 * math.sqrt(14)


def test_unseeded_rows_differ_from_each_other_and_from_step_to_step() -> None:
    logits = torch.zeros(4, 1000)
    sampler = Sampler(0)
    states = [state() for _ in range(4)]
    drawn = [
        token.token_id for _ in range(3) for token in sampler.sample(logits, [0, 1, 2, 3], states)
    ]
    assert len(set(drawn)) > 8


def test_greedy_rows_take_the_best_token_beside_random_ones() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [0.0, 0.0, 9.0], [5.0, 1.0, 4.9]])
    states = [state(temperature=0.0), state(temperature=1.0, top_k=1), state(temperature=0.0)]
    assert tokens(logits, states) == [1, 2, 0]


def test_penalties_follow_their_definitions() -> None:
    logits = torch.tensor([[2.0, 1.9, -1.0, 0.5]])

    def best(**params: Any) -> int:
        return tokens(logits, [state(temperature=0.0, prompt=[1], output=[0, 0, 3], **params)])[0]

    assert best() == 0
    assert best(presence_penalty=0.2) == 1  # 1 was in the prompt only
    assert best(frequency_penalty=0.06) == 1  # twice 0.06 brings 2.0 below 1.9
    assert best(frequency_penalty=0.04) == 0
    assert best(repetition_penalty=1.2) == 0  # 0 and 1 are both divided
    assert best(repetition_penalty=0.5) == 0
    only_prompt = state(temperature=0.0, prompt=[0], repetition_penalty=1.2)
    assert tokens(logits, [only_prompt]) == [1]
    negative = torch.tensor([[-1.0, -1.1]])
    assert tokens(negative, [state(temperature=0.0, prompt=[0], repetition_penalty=1.2)]) == [1]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_tiny_penalty_makes_a_token_certain_without_a_warning(temperature: float) -> None:
    logits = torch.tensor([[0.0, 8.0, 9.0, -torch.inf]])
    tiny = state(temperature=temperature, prompt=[0, 1, 3], repetition_penalty=1e-300)
    assert tokens(logits, [tiny]) == [1]


def test_penalties_leave_neighbouring_rows_and_the_logits_alone() -> None:
    logits = torch.tensor([[2.0, 1.9], [2.0, 1.9]])
    before = logits.clone()
    penalised = state(temperature=0.0, output=[0], presence_penalty=1.0)
    assert tokens(logits, [penalised, state(temperature=0.0)]) == [1, 0]
    assert torch.equal(logits, before)


def test_logprobs_are_the_models_own_with_true_ranks() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0], [3.0, 2.0, 1.0, 0.0]])
    states = [
        state(temperature=0.0, logprobs=2, output=[3], presence_penalty=2.0),
        state(temperature=0.0, logprobs=0),
    ]
    first, second = Sampler(0).sample(logits, [10, 11], states)
    exact = torch.log_softmax(logits[0].double(), -1).tolist()
    assert (first.sequence_id, first.token_id) == (10, 2)  # the penalty moved the choice …
    assert first.top_token_ids == [2, 3, 2]
    assert first.top_ranks == [2, 1, 2]  # … and not the log-probabilities
    assert first.top_logprobs == pytest.approx([exact[2], exact[3], exact[2]], abs=1e-5)
    assert (second.top_token_ids, second.top_ranks) == ([0], [1])


def test_rows_without_logprobs_carry_none() -> None:
    logits = torch.zeros(2, 4)
    plain, with_them = Sampler(0).sample(
        logits, [0, 1], [state(temperature=0.0), state(temperature=0.0, logprobs=1)]
    )
    assert plain.top_token_ids is None
    assert with_them.top_token_ids is not None


def test_more_logprobs_than_vocabulary() -> None:
    sampled = Sampler(0).sample(torch.zeros(1, 3), [0], [state(temperature=0.0, logprobs=20)])
    assert sampled[0].top_token_ids is not None
    assert len(sampled[0].top_token_ids) == 4


def test_every_mixture_of_row_kinds_gives_each_row_its_own_token() -> None:
    kinds: dict[str, dict[str, Any]] = {
        "greedy": {"temperature": 0.0},
        "plain": {"temperature": 1e-4},  # nearly greedy, by the random path
        "filtered": {"temperature": 1e-4, "top_p": 0.9},
    }
    for chosen in itertools.product(kinds, repeat=3):
        logits = torch.randn(3, 300)
        states = [state(seed=i, **kinds[kind]) for i, kind in enumerate(chosen)]
        assert tokens(logits, states) == logits.argmax(-1).tolist()
