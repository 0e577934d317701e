"""Greedy tokens and their log-probabilities, of an executor and of transformers."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
import transformers

from octavo.sampling_params import SamplingParams
from octavo.worker.batch import Executor
from tests.support.runtime.stepping import Stepper, make_executor

GREEDY_WITH_LOGPROBS = SamplingParams(temperature=0.0, max_tokens=None, logprobs=0)


def greedy(executor: Executor, prompt: list[int], count: int) -> tuple[list[int], list[float]]:
    """Tokens, and the log-probability of each."""
    stepper = Stepper(executor)
    generation = stepper.sequence(prompt, GREEDY_WITH_LOGPROBS)
    sampled = stepper.step([(generation, len(prompt))])
    for _ in range(count - 1):
        sampled += stepper.step([(generation, 1)])
    return generation.output, [(token.top_logprobs or [])[0] for token in sampled]


def check_scores(
    folder: Path, reference: Path, *, vocab: int, tolerance: float = 1e-3, **changes: object
) -> None:
    """The checkpoint in `folder` says what transformers says of the plain one in `reference`."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        reference, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    prompt = random.Random(1).choices(range(3, vocab), k=21)  # noqa: S311
    tokens, logprobs = greedy(make_executor(folder, **changes), prompt, 16)
    with torch.no_grad():
        logits = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
    expected = torch.log_softmax(logits.float(), dim=-1)
    best, ids = expected.max(dim=-1)
    assert tokens == ids.tolist()
    assert logprobs == pytest.approx(best.tolist(), abs=tolerance)
