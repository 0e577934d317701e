"""What drafts leave of the distribution: tokens and pairs of tokens come as often as without them."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from octavo.sampling.host.sampler import Sampler
from octavo.sampling.host.verify import verify
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from tests.support.runtime.exact_distribution import exact_distribution

VOCAB = 6
END = 5
DRAWS = 1500

Logits = npt.NDArray[np.float32]

CASES: list[dict[str, Any]] = [
    {},
    {"temperature": 0.6, "top_k": 4},
    {"top_p": 0.7, "min_p": 0.05},
    {"presence_penalty": 1.0, "frequency_penalty": 0.5, "logit_bias": {1: 1.5}},
    {"bad_words_token_ids": [[2, 3], [4]]},
]


@pytest.fixture(scope="module")
def bigrams() -> Logits:
    """The toy model: `[last token, token]`."""
    torch.manual_seed(2)
    return (torch.randn(VOCAB, VOCAB) * 1.5).numpy()


def shaped(logits: Logits, output: list[int], params: SamplingParams) -> Logits:
    """The scores behind `output`, by the definitions."""
    scores = logits.copy()
    for token, count in Counter(output).items():
        scores[token] -= params.presence_penalty + params.frequency_penalty * count
    for token, value in (params.logit_bias or {}).items():
        scores[token] += value
    for *before, last in params.bad_words_token_ids or ():
        if output[len(output) - len(before) :] == before:
            scores[last] = -np.inf
    return scores


@pytest.mark.parametrize(
    ("case", "is_seeded"), [(case, index % 2 == 0) for index, case in enumerate(CASES)]
)
def test_two_tokens_follow_the_models_distribution(
    bigrams: Logits, case: dict[str, Any], is_seeded: bool
) -> None:
    """Drafts come from a distribution that has nothing to do with the model's."""
    params = SamplingParams(**case)
    generator, sampler = np.random.default_rng(0), Sampler(1)
    pairs = np.zeros((VOCAB, VOCAB))
    for start in range(0, DRAWS, 500):
        drafts = generator.choice(VOCAB, size=(500, 2), p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1]).tolist()
        states = [
            SamplingState(params, start + i if is_seeded else None, [0], []) for i in range(500)
        ]
        rows = [bigrams[last] for draft in drafts for last in (0, *draft)]
        tokens = verify(sampler, torch.from_numpy(np.stack(rows)), range(500), states, drafts)
        assert not any(state.output_token_ids for state in states)
        drawn: dict[int, list[int]] = {}
        for token in tokens:
            drawn.setdefault(token.sequence_id, []).append(token.token_id)
        for name, found in drawn.items():
            accepted = found[:-1]
            assert accepted == drafts[name][: len(accepted)]
            assert len(found) == 3 or found[-1] != drafts[name][len(accepted)]
            second = (
                found[1] if len(found) > 1 else without_draft(sampler, bigrams, found, states[name])
            )
            pairs[found[0], second] += 1
    assert pairs.sum() == DRAWS
    expected = np.zeros_like(pairs)
    for first, share in enumerate(exact_distribution(shaped(bigrams[0], [], params), params)):
        if share:
            scores = shaped(bigrams[first], [first], params)
            expected[first] = DRAWS * share * exact_distribution(scores, params)
    assert pairs[expected == 0].sum() == 0
    likely = expected > 0
    chi_square = float(((pairs - expected)[likely] ** 2 / expected[likely]).sum())
    freedom = int(likely.sum()) - 1
    assert chi_square < freedom + 5 * math.sqrt(2 * freedom)


def without_draft(sampler: Sampler, bigrams: Logits, found: list[int], state: SamplingState) -> int:
    """The next step of a sequence whose first draft did not come true."""
    assert isinstance(state.output_token_ids, list)
    state.output_token_ids.extend(found)
    sampler.forget([0])
    logits = torch.from_numpy(bigrams[found[-1]][None])
    return sampler.sample(logits, [0], [state])[0].token_id


def test_nothing_follows_a_token_that_ends_the_sequence(bigrams: Logits) -> None:
    params = SamplingParams(temperature=0.0, logit_bias={END: 100.0})
    for one in (params, SamplingParams(seed=0, logit_bias={END: 100.0})):
        state = SamplingState(one, one.seed, [0], [], end_token_ids=frozenset({END}))
        logits = torch.from_numpy(np.stack([bigrams[0]] * 3))
        tokens = verify(Sampler(0), logits, [7], [state], [[END, END]])
        assert [(token.sequence_id, token.token_id) for token in tokens] == [(7, END)]
