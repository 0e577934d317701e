"""Models that were drawn, through the whole engine: prompt chunks, decodes, and prefixes of the cache."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from octavo.config import EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.messages import AddRequest, TokenLogprobs
from octavo.models.registry import FAMILIES as ARCHITECTURES
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import Executor
from tests.support.runtime.drawn_models import COUNT, FAMILIES, drawn_checkpoint
from tests.support.runtime.gpu_path import make_gpu_executor
from tests.support.runtime.stepping import make_executor

LENGTH = 12
GREEDY = SamplingParams(temperature=0.0, logprobs=4, max_tokens=LENGTH, ignore_eos=True)
# Tokens that the model thinks little of: a random model's favourites repeat themselves.
DRAWN = SamplingParams(temperature=9.0, seed=1, logprobs=4, max_tokens=LENGTH, ignore_eos=True)


def on_cpu(folder: Path, dtype: torch.dtype) -> Executor:
    return make_executor(folder, dtype=str(dtype).removeprefix("torch."))


def on_gpu_path(folder: Path, dtype: torch.dtype) -> Executor:
    return make_gpu_executor(folder, dtype=dtype)


PATHS = {"cpu": on_cpu, "gpu-path": on_gpu_path}
MODELS = [
    pytest.param(family, number, id=f"{family}-{number}")
    for family, number in itertools.product(sorted(FAMILIES), range(COUNT))
]


@dataclass
class Answer:
    prompt: list[int]
    params: SamplingParams
    output: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)

    def expected(self, model: Any) -> torch.Tensor:
        """Log-probabilities of every token in each place of the output, `[LENGTH, vocab]` float32."""
        with torch.inference_mode():
            logits = model(torch.tensor([[*self.prompt, *self.output[:-1]]])).logits
        return torch.log_softmax(logits[0, len(self.prompt) - 1 :].float(), dim=-1)


def serve(folder: Path, executor: Executor, vocab: int) -> list[Answer]:
    """Requests that come while others run, and whose prompts begin as others did."""
    config = EngineConfig(model=str(folder), max_num_seqs=5, max_num_batched_tokens=40)
    core = EngineCore(config, executor, is_debugging=True)
    answers: dict[str, Answer] = {}
    rng = random.Random(vocab)  # noqa: S311

    def add(prompt: list[int], params: SamplingParams = GREEDY) -> Answer:
        name = str(len(answers))
        answers[name] = Answer(prompt, params)
        core.add(AddRequest(name, prompt, params))
        return answers[name]

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


def test_every_family_is_drawn() -> None:
    drawn = {family.replace("_", "") for family in FAMILIES}
    assert drawn == {name.removesuffix("ForCausalLM").lower() for name in ARCHITECTURES}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize(("family", "number"), MODELS)
def test_tokens_and_their_probabilities_are_those_of_transformers(
    family: str, number: int, path: Callable[..., Executor], tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    model = drawn_checkpoint(tmp_path, family, number)
    answers = serve(tmp_path, path(tmp_path, torch.float32), model.config.vocab_size)
    for answer in answers:
        expected = answer.expected(model)
        if answer.params is GREEDY:
            best = expected.topk(2, dim=-1)
            is_clear = best.values[:, 0] - best.values[:, 1] > 1e-3
            assert torch.equal(torch.tensor(answer.output)[is_clear], best.indices[is_clear, 0])
        for place, found in enumerate(answer.logprobs):
            ours = torch.tensor(found.logprobs)
            torch.testing.assert_close(ours, expected[place, found.token_ids], rtol=1e-3, atol=2e-3)
    assert len({token for answer in answers for token in answer.output}) > 8


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_bfloat16_errs_as_little_as_transformers(
    family: str, path: Callable[..., Executor], tmp_path: Path
) -> None:
    """Measured by what transformers computes in float32 with the same rounded weights. The median counts: of
    two experts that are nearly equal a rounding picks one, and what follows is far off."""
    torch.set_num_threads(1)
    own, theirs = [], []
    for number in range(COUNT):
        folder = tmp_path / str(number)
        exact = drawn_checkpoint(folder, family, number)
        with torch.no_grad():
            for parameter in exact.parameters():
                parameter.copy_(parameter.bfloat16())
        rounded = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.bfloat16, attn_implementation="eager"
        )
        for answer in serve(folder, path(folder, torch.bfloat16), exact.config.vocab_size):
            true, other = answer.expected(exact), answer.expected(rounded)
            for place, found in enumerate(answer.logprobs):
                ids = found.token_ids
                own.append(torch.tensor(found.logprobs) - true[place, ids])
                theirs.append(other[place, ids] - true[place, ids])
    assert middle(own) < 1.5 * middle(theirs)


def middle(errors: list[torch.Tensor]) -> float:
    return torch.cat(errors).abs().median().item()
