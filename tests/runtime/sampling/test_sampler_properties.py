"""The CPU's sampler against its definition, over made-up rows: ties, cuts, masked tokens, flat and peaked."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from octavo.kernels.reference.sampling import random_bits
from octavo.kernels.reference.sampling.sample import SamplingTensors, sample
from octavo.kernels.select import host_random_bits
from octavo.sampling.host import race, sampler
from octavo.sampling.host.draw import least_kept
from octavo.sampling.host.ranking import LONG_ROW, best_tokens, best_values
from octavo.sampling.host.sampler import Sampler
from octavo.sampling.processors.penalties import TokenCounts
from octavo.sampling.state import SampledToken, SamplingState
from octavo.sampling_params import SamplingParams
from tests.support.runtime.exact_distribution import TooCloseError, exactly_kept

LONG = LONG_ROW + 77


ROW_KINDS = ["flat", "peaked", "rising", "falling", "tied", "equal", "masked"]


def make_row(kind: str, size: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    row = generator.standard_normal(size)
    if kind == "peaked":
        row = generator.permutation(row - 2.0 * np.log(np.arange(1, size + 1)))
    elif kind == "rising":  # the last tokens hold the mass
        row = (np.arange(size) - size) / 8
    elif kind == "falling":
        row = -np.arange(size) / 8
    elif kind == "tied":
        row = np.round(row * 2) / 2
    elif kind == "equal":
        row = np.zeros(size)
    elif kind == "masked":
        row = np.where(generator.random(size) < 0.9, -np.inf, row)
        row[seed % size] = 0.5
    return row.astype(np.float32)


rows = st.builds(
    make_row,
    st.sampled_from(ROW_KINDS),
    st.integers(1, 70) | st.just(700),
    st.integers(0, 2**32 - 1),
)
long_rows = st.builds(
    make_row,
    st.sampled_from(ROW_KINDS),
    st.just(LONG),
    st.integers(0, 2**32 - 1),
)
filters = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.3, 0.7, 1.0, 2.0]),
        "top_k": st.sampled_from([0, 0, 1, 2, 5, 50, 64, 65, 300, 16_000, 10**6]),
        "top_p": st.sampled_from([1.0, 1.0, 0.0, 0.05, 0.5, 0.9, 0.999]),
        "min_p": st.sampled_from([0.0, 0.0, 0.02, 0.5, 1.0]),
    }
)


def with_margin(reference: Any, row: np.ndarray, params: SamplingParams) -> np.ndarray:
    """Leaves out rows where the rounding of float32 may decide."""
    try:
        found: np.ndarray = reference(row, params, margin=1e-5)
    except TooCloseError:
        assume(False)
    return found


def drawn_on_device(logits: torch.Tensor, states: list[SamplingState]) -> list[int]:
    """What the kernels of a device are held to."""
    params = [state.params for state in states]
    tensors = SamplingTensors(
        temperature=torch.tensor([0.0 if p.is_greedy else p.temperature for p in params]),
        top_k=torch.tensor([max(p.top_k, 0) for p in params], dtype=torch.int32),
        top_p=torch.tensor([p.top_p for p in params]),
        min_p=torch.tensor([p.min_p for p in params]),
        seed=torch.tensor([state.seed for state in states]),
        position=torch.tensor([len(state.output_token_ids) for state in states]),
    )
    tokens: list[int] = sample(logits, tensors).tolist()
    return tokens


def drawn_on_host(logits: torch.Tensor, states: list[SamplingState]) -> list[int]:
    sampled = Sampler(0).sample(logits, range(len(states)), states)
    return [token.token_id for token in sampled]


@pytest.mark.parametrize("is_compiled", [True, False])
@pytest.mark.parametrize("kind", ["short", "long"])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_equal_logits_and_seeds_draw_the_same_token_on_host_and_device(
    kind: str, is_compiled: bool, data: st.DataObject
) -> None:
    row = data.draw(rows if kind == "short" else long_rows)
    chosen: list[dict[str, Any]] = [data.draw(filters) for _ in range(3)]
    drawn = [SamplingParams(**values) for values in chosen]
    for params in drawn:
        with_margin(exactly_kept, row, params)
    seeds = st.integers(-(2**63), 2**63 - 1)
    states = [
        SamplingState(params, data.draw(seeds), (), range(data.draw(st.integers(0, 99))))
        for params in drawn
    ]
    logits = torch.from_numpy(np.stack([row, row, row]))
    source = host_random_bits() if is_compiled else random_bits
    with mock.patch.object(race, "host_random_bits", return_value=source):
        assert drawn_on_host(logits, states) == drawn_on_device(logits, states)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([1e-4, 0.3, 1.0, 5.0]), st.integers(0, 2**32 - 1), st.booleans())
def test_host_and_device_draw_alike_at_any_temperature_and_range(
    temperature: float, seed: int, is_far: bool
) -> None:
    """Far scores leave so few bits for the noise that what it decides is rounding."""
    row = make_row("flat", 1280, seed) * 3 + (3000 if is_far else 0)
    params = SamplingParams(temperature=temperature)
    states = [SamplingState(params, seed + i, (), ()) for i in range(40)]
    logits = torch.from_numpy(np.repeat(row[None].astype(np.float32), 40, axis=0))
    assert drawn_on_host(logits, states) == drawn_on_device(logits, states)


def test_logits_that_differ_by_rounding_draw_the_same_tokens() -> None:
    """Inverting the distribution changed one draw in two hundred."""
    row = make_row("flat", LONG, 5)
    noise = np.where(np.arange(LONG) < LONG // 2, 1e-5, -1e-5)
    states = [SamplingState(SamplingParams(), i, (), ()) for i in range(800)]
    for start in range(0, len(states), 100):
        part = states[start : start + 100]
        exact = torch.from_numpy(np.repeat(row[None], 100, axis=0))
        rounded = torch.from_numpy(np.repeat((row + noise).astype(np.float32)[None], 100, axis=0))
        assert drawn_on_host(exact, part) == drawn_on_host(rounded, part)


@settings(max_examples=70, deadline=None)
@given(long_rows, filters)
def test_filters_keep_the_very_tokens_of_their_definition(
    row: np.ndarray, values: dict[str, Any]
) -> None:
    params = SamplingParams(**values)
    expected = with_margin(exactly_kept, row, params)
    least = least_kept(row[None], row.max(keepdims=True), [SamplingState(params, None, (), ())])
    assert np.array_equal(np.flatnonzero(row >= least[0]), np.flatnonzero(expected))


@pytest.mark.parametrize("kind", ["rising", "falling"])
def test_both_ends_of_a_long_row_can_be_best(kind: str) -> None:
    row = make_row(kind, LONG, 0)
    order = np.argsort(-row, kind="stable")[:100]
    assert best_tokens(row[None], [100])[0].tolist() == order.tolist()


def params_of(kind: str, number: int) -> SamplingParams:
    return {
        "greedy": SamplingParams(temperature=0.0),
        "plain": SamplingParams(temperature=0.8),
        "filtered": SamplingParams(temperature=1.2, top_k=1 + number % 100, top_p=0.8),
        "wide": SamplingParams(top_p=0.97, min_p=1e-4),
        "reported": SamplingParams(logprobs=number % 7),
        "penalised": SamplingParams(frequency_penalty=0.3, repetition_penalty=1.3, top_p=0.9),
    }[kind]


KINDS = ["greedy", "plain", "filtered", "wide", "reported", "penalised"]


@pytest.mark.parametrize("vocab", [40, 1280, LONG, 50_001])
@settings(max_examples=12, deadline=None)
@given(
    kind=st.sampled_from(KINDS[1:]),
    place=st.integers(0, 31),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)
def test_a_seeded_row_is_the_same_alone_and_among_31_others(
    vocab: int, kind: str, place: int, seed: int, dtype: torch.dtype
) -> None:
    generator = np.random.default_rng(seed)
    logits = torch.from_numpy(
        np.stack([make_row("flat" if i % 2 else "peaked", vocab, seed + i) for i in range(32)])
    ).to(dtype)
    states = [
        SamplingState(
            params_of(KINDS[generator.integers(len(KINDS))], i),
            None if generator.random() < 0.3 else i,
            generator.integers(vocab, size=20).tolist(),
            generator.integers(vocab, size=20).tolist(),
        )
        for i in range(32)
    ]
    states[place] = mine = SamplingState(params_of(kind, seed), seed, [1, 2, 3], [4, 5, 4])
    among = Sampler(7).sample(logits, range(32), states)[place]
    alone = Sampler(8).sample(logits[place : place + 1], [place], [mine])[0]
    assert alone == among


@settings(max_examples=100, deadline=None)
@given(
    output=st.lists(st.integers(0, 99), max_size=200),
    prompt=st.lists(st.integers(0, 99), max_size=50),
    pauses=st.sets(st.integers(0, 200)),
    presence=st.floats(-2, 2),
    frequency=st.floats(-2, 2),
    repetition=st.floats(0.1, 3),
)
def test_penalties_of_a_growing_output_follow_their_definition(
    output: list[int],
    prompt: list[int],
    pauses: set[int],
    presence: float,
    frequency: float,
    repetition: float,
) -> None:
    params = SamplingParams(
        presence_penalty=presence, frequency_penalty=frequency, repetition_penalty=repetition
    )
    logits = np.random.default_rng(len(output)).standard_normal(100).astype(np.float32) * 4
    live: list[int] = []
    counts = TokenCounts(SamplingState(params, None, prompt, live))
    for place, token in enumerate(output):
        live.append(token)
        if place in pauses:
            counts.shape(logits.copy())
    got = logits.copy()
    counts.shape(got)
    expected = logits.astype(np.float64)
    for token in set(prompt) | set(output):
        value = expected[token]
        expected[token] = value / repetition if value > 0 else value * repetition
    for token in set(output):
        expected[token] -= presence + frequency * output.count(token)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-4)


def test_counts_are_kept_by_sequence_and_forgotten_on_demand() -> None:
    logits = torch.tensor([[1.0, 0.9, 0.0]])
    params = SamplingParams(temperature=0.0, presence_penalty=0.5)
    sampler = Sampler(0)

    def best(output: list[int]) -> int:
        return sampler.sample(logits, [5], [SamplingState(params, None, (), output)])[0].token_id

    assert best([0]) == 1
    assert best([2]) == 0  # another sequence under the same number
    sampler.forget([5, 6])
    assert best([0]) == 1


@settings(max_examples=60, deadline=None)
@given(rows | long_rows, st.integers(1, 300))
def test_the_best_of_a_row_are_those_of_a_sort(row: np.ndarray, count: int) -> None:
    count = min(count, row.size)
    order = np.argsort(-row, kind="stable")[:count]
    assert best_values(row[None], count)[0].tolist() == row[order].tolist()
    found = best_tokens(np.stack([row, -row, row]), [count, 0, 1])
    assert [ids.tolist() for ids in found] == [order.tolist(), [], order[:1].tolist()]


@pytest.mark.parametrize("vocab", [300, LONG])
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_overflowed_spoils_no_other(kind: str, vocab: int) -> None:
    healthy = torch.from_numpy(make_row("peaked", vocab, 3))
    broken = torch.zeros(4, vocab)
    broken[0] = float("nan")
    broken[1] = float("-inf")
    broken[2, 7] = float("inf")
    broken[3, ::2] = float("nan")
    states = [SamplingState(params_of(kind, 9), 11, [1], [2]) for _ in range(5)]
    sampled = Sampler(0).sample(torch.cat([broken, healthy[None]]), range(5), states)
    (alone,) = Sampler(0).sample(healthy[None], [4], states[4:])
    assert sampled[4] == alone
    assert [token.is_spoilt for token in sampled] == [True] * 4 + [False]
    assert sampled[2].token_id == 7
    assert sampled[3].token_id % 2 == 1
    assert all(0 <= token.token_id < vocab for token in sampled)


def test_log_probabilities_rank_equal_tokens_by_their_ids() -> None:
    logits = torch.tensor([[1.0, 2.0, 2.0, 0.0, 2.0, 1.0]])
    (token,) = Sampler(0).sample(
        logits, [0], [SamplingState(SamplingParams(temperature=0.0, logprobs=5), None, (), ())]
    )
    assert isinstance(token, SampledToken)
    assert token.top_token_ids == [1, 1, 2, 4, 0, 5]
    assert token.top_ranks == [1, 1, 2, 3, 4, 5]


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_draw_on_all_threads_finds_the_tokens_of_a_draw_on_one(data: st.DataObject) -> None:
    vocab = data.draw(st.sampled_from([16_384, 16_385, 20_479, 20_480, 20_511]))
    noise = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    spread = data.draw(st.sampled_from([0.0, 1.0, 30.0, 3000.0]))
    logits = torch.from_numpy(noise.normal(0, spread, (3, vocab)).astype(np.float32))
    if data.draw(st.booleans()):
        logits = logits.bfloat16()
    temperature = data.draw(st.sampled_from([0.1, 1.0, 1.7]))
    params = [
        SamplingParams(temperature=temperature, seed=1),
        SamplingParams(temperature=data.draw(st.sampled_from([0.0, 0.7])), seed=2),
        SamplingParams(temperature=1.0, seed=3, top_k=data.draw(st.sampled_from([0, 5]))),
    ]
    states = [SamplingState(one, one.seed, (), range(seed)) for seed, one in enumerate(params)]
    logits[0, data.draw(st.integers(0, vocab - 1))] = data.draw(
        st.sampled_from([0.0, -torch.inf, torch.inf, torch.nan])
    )
    found = drawn_on_host(logits, states)
    with mock.patch.object(sampler, "host_long_rows", return_value=None):
        assert drawn_on_host(logits, states) == found
