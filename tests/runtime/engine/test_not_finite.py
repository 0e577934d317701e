"""Scores that are no numbers end the request that has them, by name, and nobody else's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from octavo.config import EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.messages import AddRequest, TokenOutput
from octavo.outputs import FinishReason
from octavo.sampling_params import SamplingParams
from octavo.speculative_config import SpeculativeConfig
from octavo.worker.batch import Executor
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.gpu_path import make_gpu_executor
from tests.support.runtime.stepping import make_executor

POISON = 90
WANTED: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"temperature": 1.0, "seed": 5},
    {"temperature": 1.0, "seed": 5, "top_k": 4},
    {"temperature": 0.0, "logprobs": 2, "frequency_penalty": 0.5},
    {"temperature": 0.0, "prompt_logprobs": 1},
    {"temperature": 0.0, "max_tokens": 0, "prompt_logprobs": 0},
]


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with NaN where one token is embedded, as a weight that overflowed has it."""
    folder = tmp_path_factory.mktemp("poisoned")
    make_checkpoint(folder, num_hidden_layers=2)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.embed_tokens.weight"][POISON] = torch.nan
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def outputs_of(core: EngineCore, **prompts: list[int]) -> dict[str, list[TokenOutput]]:
    found: dict[str, list[TokenOutput]] = {name: [] for name in prompts}
    while core.has_work:
        for output in core.step().outputs:
            found[output.request_id].append(output)
    return found


@pytest.mark.parametrize(
    ("make", "guesses"),
    [(make_executor, False), (make_executor, True), (make_gpu_executor, False)],
    ids=["cpu", "cpu-guesses", "gpu"],
)
def test_nan_ends_its_request_with_the_cause_and_leaves_the_others_theirs(
    poisoned: Path, make: Callable[[Path], Executor], guesses: bool
) -> None:
    speculative = SpeculativeConfig.read({"method": "ngram"}) if guesses else None
    config = EngineConfig(
        model=str(poisoned),
        max_num_seqs=8,
        max_num_batched_tokens=64,
        speculative_config=speculative,
    )
    core = EngineCore(config, make(poisoned), is_debugging=True)
    prompts = {"bad": [5, 6, POISON, 9, 5, 6], "good": [5, 6, 7, 9, 5, 6]}
    for wanted in WANTED:
        params = SamplingParams(**{"max_tokens": 8, "ignore_eos": True, **wanted})
        answers = []
        for names in (("bad", "good"), ("good",)):
            for name in names:
                core.add(AddRequest(name, prompts[name], params))
            found = outputs_of(core, **{name: prompts[name] for name in names})
            answers.append([token for each in found["good"] for token in each.new_token_ids])
            assert found["good"][-1].finish_reason is FinishReason.LENGTH
            if "bad" in found:
                (failed,) = found["bad"]
                assert failed.finish_reason is FinishReason.ERROR
                assert "not finite (NaN or infinity)" in (failed.error or "")
                assert failed.new_token_ids == []
        assert answers[0] == answers[1]
    stats = core.stats()
    assert (stats.kv_blocks_used, stats.num_failed_steps) == (0, 0)


@pytest.mark.parametrize("number", [torch.nan, torch.inf], ids=["nan", "inf"])
@pytest.mark.parametrize("make", [make_executor, make_gpu_executor], ids=["cpu", "gpu"])
def test_a_mask_hides_no_score_that_is_not_finite(
    tmp_path: Path, make: Callable[[Path], Executor], number: float
) -> None:
    make_checkpoint(tmp_path, num_hidden_layers=2)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["lm_head.weight"][POISON] = number
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    config = EngineConfig(model=str(tmp_path), max_num_seqs=8, max_num_batched_tokens=64)
    core = EngineCore(config, make(tmp_path), is_debugging=True)
    masks: list[dict[str, Any]] = [
        {"temperature": 0.0, "allowed_token_ids": [5, 6, 7]},
        {"temperature": 1.0, "seed": 5, "allowed_token_ids": [5, 6, 7], "logprobs": 1},
        {"temperature": 1.0, "seed": 5, "logit_bias": {POISON: -100.0}},
    ]
    for place, wanted in enumerate(masks):
        core.add(AddRequest(str(place), [5, 6, 7], SamplingParams(max_tokens=4, **wanted)))
    found = outputs_of(core, **{str(place): [] for place in range(len(masks))})
    assert [each[-1].finish_reason for each in found.values()] == [FinishReason.ERROR] * 3
