"""The shipped model adds as well with its weights rounded."""

from __future__ import annotations

import pytest

from octavo import LLM, SamplingParams
from octavo.config import Quantization
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.NUMBA)


@pytest.mark.parametrize("quantization", [Quantization.INT8, Quantization.INT4])
def test_sums_stay_right(quantization: Quantization) -> None:
    pairs = [(17, 25), (58, 67), (90, 9), (36, 64), (11, 88), (73, 48), (29, 95), (82, 27)]
    questions = [[{"role": "user", "content": f"What is {a} plus {b}?"}] for a, b in pairs]
    with LLM("builtin://demo", quantization=quantization, max_model_len=128) as llm:
        outputs = llm.chat(questions, SamplingParams(temperature=0, max_tokens=24))
    given = [output.outputs[0].text for output in outputs]
    assert given == [f"{a} plus {b} is {a + b}." for a, b in pairs]
