"""Answers of a whole engine, to be compared with transformers: prompt chunks, decodes, cached prefixes."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from octavo.config import EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.messages import AddRequest, TokenLogprobs
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import Executor

LENGTH = 12
GREEDY = SamplingParams(temperature=0.0, logprobs=4, max_tokens=LENGTH, ignore_eos=True)
# Tokens that the model thinks little of: a random model's favourites repeat themselves.
DRAWN = SamplingParams(temperature=9.0, seed=1, logprobs=4, max_tokens=LENGTH, ignore_eos=True)


@dataclass
class Answer:
    prompt: list[int]
    params: SamplingParams
    adapter_id: int = 0
    output: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)

    def expected(self, model: Any) -> torch.Tensor:
        """Log-probabilities of every token in each place of the output, `[LENGTH, vocab]` float32."""
        with torch.inference_mode():
            logits = model(torch.tensor([[*self.prompt, *self.output[:-1]]])).logits
        return torch.log_softmax(logits[0, len(self.prompt) - 1 :].float(), dim=-1)


def serve(
    folder: Path, executor: Executor, vocab: int, adapters: Mapping[int, Path] | None = None
) -> list[Answer]:
    """Requests that come while others run, and whose prompts begin as others did.

    Args:
        adapters: By id; each request comes once for the model alone, and once with each of them.
    """
    given = adapters or {}
    config = EngineConfig(
        model=str(folder),
        max_num_seqs=5,
        max_num_batched_tokens=40,
        enable_lora=bool(given),
        max_loras=2 if given else 1,
    )
    core = EngineCore(config, executor, is_debugging=True)
    for adapter_id, place in given.items():
        core.adapters.load(adapter_id, str(place))
    answers: dict[str, Answer] = {}
    rng = random.Random(vocab)  # noqa: S311

    def add(prompt: list[int], params: SamplingParams = GREEDY) -> Answer:
        """The model's own."""
        added = []
        for adapter_id in (0, *given):
            name = str(len(answers))
            answers[name] = Answer(prompt, params, adapter_id)
            core.add(AddRequest(name, prompt, params, adapter_id=adapter_id))
            added.append(answers[name])
        return added[0]

    def tokens(count: int) -> list[int]:
        return rng.choices(range(vocab), k=count)

    def run(steps: int) -> None:
        while core.has_work and steps:
            steps -= 1
            for output in core.step().outputs:
                answers[output.request_id].output += output.new_token_ids
                answers[output.request_id].logprobs += output.logprobs or []

    long = add(tokens(100))
    add(tokens(1))
    run(3)
    add(tokens(17), DRAWN)
    add(long.prompt[:70] + tokens(20))
    run(-1)
    add(long.prompt + long.output, DRAWN)
    add(long.prompt[:90] + tokens(5))
    run(-1)
    assert core.stats().prefix_cache_hit_tokens_total > 150
    return list(answers.values())


def assert_as_transformers(answers: list[Answer], model: Any) -> None:
    """Tokens where one is clearly the best, and probabilities, everywhere."""
    for answer in answers:
        expected = answer.expected(model)
        if answer.params is GREEDY:
            best = expected.topk(2, dim=-1)
            is_clear = best.values[:, 0] - best.values[:, 1] > 1e-3
            assert torch.equal(torch.tensor(answer.output)[is_clear], best.indices[is_clear, 0])
        for place, found in enumerate(answer.logprobs):
            ours = torch.tensor(found.logprobs)
            torch.testing.assert_close(ours, expected[place, found.token_ids], rtol=1e-3, atol=2e-3)
