from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.kernels.reference.sampling import random_bits
from octavo.kernels.reference.sampling import sample as reference
from octavo.kernels.reference.sampling.sample import SamplingTensors
from octavo.kernels.select import has_cpu_kernels, host_random_bits
from tests.support.kernels.poison import poisoned_memory
from tests.support.kernels.rounding import FLOATS
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
from octavo.kernels.gpu.sampling import filters as sampling_list
from octavo.kernels.gpu.sampling import sample as gpu
from tests.support.kernels.sampling_tensors import tensors

CPU = torch.device("cpu")


def expected_distribution(
    logits: torch.Tensor, temperature: float, top_k: int, top_p: float, min_p: float
) -> torch.Tensor:
    """The definition, token by token, in float64."""
    scores = [x / temperature for x in logits.double().tolist()]
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    order = order[:top_k] if top_k else order
    weights = {i: math.exp(scores[i] - scores[order[0]]) for i in order}
    total = sum(weights.values())
    probabilities = torch.zeros(len(scores), dtype=torch.float64)
    mass = 0.0
    for i in order:
        if mass < top_p * total and weights[i] >= min_p:
            probabilities[i] = weights[i]
        mass += weights[i]
    return probabilities / probabilities.sum()


@pytest.mark.parametrize(
    "case",
    [
        (1.0, 0, 1.0, 0.0),
        (0.5, 0, 1.0, 0.0),
        (2.5, 0, 1.0, 0.0),
        (1.0, 3, 1.0, 0.0),
        (1.0, 0, 0.6, 0.0),
        (1.0, 0, 1.0, 0.2),
        (3.0, 6, 0.9, 0.05),
    ],
    ids=str,
)
def test_draws_follow_the_definitions_distribution(case: tuple[float, int, float, float]) -> None:
    logits = torch.randn(13, generator=torch.Generator().manual_seed(1)) * 2
    expected = expected_distribution(logits, *case)
    draws = 20_000
    drawn = reference.sample(logits.expand(draws, -1), tensors([case] * draws))
    counts = torch.bincount(drawn, minlength=13)
    assert counts[expected == 0].sum() == 0
    want = expected[expected > 0] * draws
    chi_square = ((counts[expected > 0] - want) ** 2 / want).sum().item()
    freedom = len(want) - 1
    # Mean of chi-square is its freedom, its standard deviation sqrt(2 freedom).
    assert chi_square < freedom + 5 * math.sqrt(2 * max(freedom, 1))


def test_a_flat_vocabulary_is_drawn_without_bias_to_low_ids() -> None:
    vocab, draws = 30_000, 300
    drawn = [
        reference.sample(torch.zeros(20, vocab), tensors([(1.0, 0, 1.0, 0.0)] * 20, CPU, first))
        for first in range(0, draws, 20)
    ]
    counts = torch.histc(torch.cat(drawn).float(), bins=10, min=0, max=vocab)
    assert ((counts - draws / 10) ** 2 / (draws / 10)).sum().item() < 9 + 5 * math.sqrt(18)


def test_the_random_words_are_philox() -> None:
    """Known answers of the generator's authors (Random123, kat_vectors)."""
    zero = torch.tensor([0])
    expected = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert random_bits.random_bits(zero, zero, 4)[0].tolist() == expected
    assert host_random_bits().random_bits(zero, zero, 4)[0].tolist() == expected


words = st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=4), st.integers(1, 70))
def test_compiled_random_words_are_the_references(
    streams: list[tuple[int, int]], vocab: int
) -> None:
    compiled = host_random_bits()
    if has_cpu_kernels():
        assert compiled is not random_bits
    seeds, positions = (torch.tensor(column) for column in zip(*streams, strict=True))
    expected = random_bits.random_bits(seeds, positions, vocab)
    assert compiled.random_bits(seeds, positions, vocab).tolist() == expected.tolist()
    ids = torch.arange(len(streams)) * 31 % vocab
    for source in (random_bits, compiled):
        found = source.random_bits_at(seeds, positions, ids)
        assert found.tolist() == [row[i] for row, i in zip(expected.tolist(), ids, strict=True)]


@pytest.mark.parametrize("vocab", [1, 31, 32, 33, 1000])
def test_weights_are_divided_as_in_the_reference(vocab: int) -> None:
    seeds, positions = torch.tensor([5, -7, 2**40]), torch.tensor([0, 3, 2**33])
    weights = torch.rand(3, vocab, generator=torch.Generator().manual_seed(1))
    weights[:, ::3] = 0.0
    expected, found = weights.clone(), weights.clone()
    random_bits.divide_by_weights(seeds, positions, expected)
    host_random_bits().divide_by_weights(seeds, positions, found)
    assert found[:, ::3].isinf().all()
    assert torch.equal(found, expected)


def test_random_words_of_neighbouring_seeds_positions_and_tokens_are_independent() -> None:
    """The completions of one request have neighbouring seeds."""
    grid = torch.arange(60)
    streams = grid.repeat_interleave(60), grid.repeat(60)
    numbers = random_bits.random_bits(*streams, 60).double().view(60, 60, 60) * 2.0**-32
    assert len(set(numbers.flatten().tolist())) > 0.999 * numbers.numel()
    assert abs(numbers.mean().item() - 0.5) < 0.005
    for axis in range(3):
        size = numbers.shape[axis] - 1
        pair = torch.stack([numbers.narrow(axis, start, size).flatten() for start in (0, 1)])
        assert abs(torch.corrcoef(pair)[0, 1].item()) < 0.012  # 5 standard deviations


FILTERS = st.tuples(
    st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    st.sampled_from([0, 0, 1, 5, 50, 300]),
    st.sampled_from([1.0, 1.0, 0.0, 0.1, 0.9, 0.99]),
    st.sampled_from([0.0, 0.0, 0.05, 0.5]),
)


@settings(max_examples=6, deadline=None)
@given(
    st.lists(FILTERS, min_size=1, max_size=3),
    st.integers(1, 300) | st.sampled_from([2049, 9000, 20_000]),
    st.sampled_from([0.05, 3.0]),
    st.sampled_from(FLOATS),
)
def test_every_row_gets_the_references_token(
    device: torch.device,
    rows: list[tuple[float, int, float, float]],
    vocab: int,
    spread: float,
    dtype: torch.dtype,
) -> None:
    generator = torch.Generator().manual_seed(vocab)
    logits = (torch.randn(len(rows), vocab, generator=generator) * spread).to(dtype).to(device)
    how = tensors(rows, device)

    with poisoned_memory():
        got = gpu.sample(logits, how)

    assert torch.equal(got, reference.sample(logits, how))


@pytest.mark.parametrize(
    ("case", "spread", "dtype"),
    [
        ((0.7, 20, 0.8, 0.0), 3.0, torch.bfloat16),
        ((0.6, 0, 0.9, 0.0), 4.0, torch.float16),
        ((1.5, 0, 0.99, 0.0), 0.01, torch.bfloat16),
        ((1.0, 600, 0.9, 0.02), 1.0, torch.float16),
        ((1.0, 0, 1.0, 0.1), 2.0, torch.bfloat16),
        ((2.0, 0, 0.0, 0.0), 2.0, torch.float16),
        ((2.0, 50, 0.0, 0.0), 0.01, torch.bfloat16),
    ],
    ids=str,
)
def test_large_vocabularies_are_narrowed_without_losing_a_token(
    device: torch.device,
    case: tuple[float, int, float, float],
    spread: float,
    dtype: torch.dtype,
) -> None:
    logits = torch.randn(1, 40_001, generator=torch.Generator().manual_seed(4)) * spread
    how = tensors([case], device)
    logits = logits.to(dtype).to(device)
    assert torch.equal(gpu.sample(logits, how), reference.sample(logits, how))


def test_the_list_of_a_long_row_is_written_in_parts(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling_list, "_LISTED_AT_ONCE", 128)
    logits = torch.randn(1, 9_000, generator=torch.Generator().manual_seed(8)) * 4
    groups = torch.nn.functional.pad(logits, (0, 24), value=-math.inf).view(1, -1, 32).amax(-1)
    how = tensors([(0.6, 40, 0.9, 0.0)], device)
    lists = torch.full((1, 258), -1, dtype=torch.int32, device=device)

    sampling_list.list_best_groups(
        groups.to(device), how.temperature, how.top_k, how.top_p, how.min_p, lists, 9_000, 0
    )

    count = int(lists[0, 0])
    assert 128 <= count <= 256
    listed = lists[0, 2 : 2 + count].cpu()
    assert listed.tolist() == sorted(groups[0].topk(count).indices.tolist())
    assert (lists[0, 2 + count :] == -1).all()
    logits = logits.to(device)
    assert torch.equal(gpu.sample(logits, how), reference.sample(logits, how))


@pytest.mark.parametrize("module", [reference, gpu], ids=["reference", "kernel"])
def test_equal_logits_are_kept_together_and_greedy_takes_the_first(
    device: torch.device, module: object
) -> None:
    logits = torch.full((18, 50), -1.0, device=device)
    logits[:, [7, 11, 30]] = 2.0
    logits[:, 7] = -0.0
    logits[:, 8] = 0.0
    greedy, tied, zeros = (0.0, 0, 1.0, 0.0), (1.0, 1, 1.0, 0.0), (50.0, 3, 1.0, 0.0)
    drawn = module.sample(logits, tensors([greedy] * 2 + [tied] * 6 + [zeros] * 10, device))  # type: ignore[attr-defined]
    assert drawn[:2].tolist() == [11, 11]
    assert set(drawn[2:8].tolist()) == {11, 30}
    assert set(drawn[8:].tolist()) == {7, 8, 11, 30}


@pytest.mark.parametrize("module", [reference, gpu], ids=["reference", "kernel"])
def test_masked_tokens_and_nan_are_never_drawn(device: torch.device, module: object) -> None:
    logits = torch.full((6, 2500), float("-inf"), device=device)
    logits[:, 2300] = -5.0
    logits[:, 4] = float("nan")
    rows = [(0.0, 0, 1.0, 0.0), (1.0, 0, 1.0, 0.0), (1.0, 0, 0.5, 0.0), (1.0, 40, 1.0, 0.0)]
    rows += [(1.0, 2, 0.9, 0.1), (1.0, 0, 1.0, 0.3)]
    assert module.sample(logits, tensors(rows, device)).tolist() == [2300] * 6  # type: ignore[attr-defined]


def test_a_rows_token_does_not_depend_on_its_neighbours(device: torch.device) -> None:
    logits = torch.randn(3, 700, generator=torch.Generator().manual_seed(2)).to(device)
    rows = [(1.0, 0, 1.0, 0.0), (1.0, 9, 0.9, 0.0), (1.0, 0, 1.0, 0.1)]
    together = gpu.sample(logits, tensors(rows, device))
    alone = [
        gpu.sample(logits[i : i + 1], tensors(rows[i : i + 1], device, i)).item() for i in range(3)
    ]
    assert together.tolist() == alone


def test_an_empty_batch_and_an_unheld_vocabulary(device: torch.device) -> None:
    how = tensors([(1.0, 0, 0.5, 0.0)], device)
    empty = SamplingTensors(*(getattr(how, name)[:0] for name in how.__slots__[:6]))
    assert gpu.sample(torch.empty(0, 100, device=device), empty).shape == (0,)
    for module in (reference, gpu):
        with pytest.raises(ValueError, match="524289"):
            module.sample(torch.empty(1, 2**19 + 1, device=device), how)
