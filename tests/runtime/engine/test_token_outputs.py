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
    whole = output_of(sequence, [SampledToken(0, 3, embedding=[0.5, -0.5])])
    assert whole.embedding == [0.5, -0.5]
    failed = output_of(sequence, [SampledToken(0, 3, embedding=[0.5, number])])
    assert failed.embedding is None
    assert failed.finish_reason is FinishReason.ERROR
    assert "not finite" in (failed.error or "")
