"""What is told of a sequence: no number that is none."""

from __future__ import annotations

import math

import pytest

from octavo.engine.requests.sequence import Sequence
from octavo.engine.token_outputs import output_of
from octavo.outputs import FinishReason
from octavo.sampling.state import SampledToken
from octavo.sampling_params import SamplingParams


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_an_embedding_that_is_not_finite_is_an_error(number: float) -> None:
    sequence = Sequence(0, "r", 0, [1, 2], SamplingParams(), 1, is_pooled=True)
    sequence.output_token_ids.append(3)
    whole = output_of(sequence, [SampledToken(0, 3, embedding=[0.5, -0.5])], "bfloat16")
    assert whole.embedding == [0.5, -0.5]
    failed = output_of(sequence, [SampledToken(0, 3, embedding=[0.5, number])], "bfloat16")
    assert failed.embedding is None
    assert failed.finish_reason is FinishReason.ERROR
    assert failed.fails_again
    advice = "Another --dtype may hold them."
    assert (failed.error or "").endswith(f"overflow in bfloat16. {advice}")
    widest = output_of(sequence, [SampledToken(0, 3, embedding=[number])], "float32")
    assert (widest.error or "").endswith("overflow in float32.")


@pytest.mark.parametrize("reason", [None, FinishReason.LENGTH])
@pytest.mark.parametrize("known", [0, 5])
def test_all_but_one_of_a_steps_tokens_were_guessed(
    known: int, reason: FinishReason | None
) -> None:
    sequence = Sequence(0, "r", 0, [1, 2], SamplingParams(), 1)
    sequence.output_token_ids.extend(range(known))
    counts = []
    for tokens in ([7], [8, 9, 10]):
        sequence.output_token_ids.extend(tokens)
        sequence.finish_reason = reason
        output = output_of(sequence, [SampledToken(0, token) for token in tokens], "bfloat16")
        assert output.new_token_ids == tokens
        counts.append(output.num_accepted)
    assert counts == [0, 2]
