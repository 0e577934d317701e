"""Logit bias and allowed tokens: by definition, and the same on host and device."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.config import EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.messages import AddRequest
from octavo.errors import InvalidParameterError
from octavo.sampling.host.sampler import Sampler
from octavo.sampling.processors.token_masks import apply_on_host
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from octavo.token_mask import mask_of
from tests.support.runtime.checkpoints import VOCAB
from tests.support.runtime.gpu_path import make_gpu_executor
from tests.support.runtime.stepping import make_executor, run_to_end

LENGTH = 20
ALWAYS: dict[str, Any] = {"max_tokens": LENGTH, "ignore_eos": True}
KINDS = {
    "plain": SamplingParams(**ALWAYS, temperature=0.0),
    "biased": SamplingParams(**ALWAYS, temperature=0.0, logit_bias={7: 100.0, 9: 100.0, 3: -100.0}),
    "weakly": SamplingParams(
        **ALWAYS, seed=3, logit_bias=dict.fromkeys(range(0, VOCAB, 3), 1.5), presence_penalty=0.5
    ),
    "allowed": SamplingParams(**ALWAYS, seed=4, temperature=2.0, allowed_token_ids=[5, 31, 32, 64]),
    "filtered": SamplingParams(
        **ALWAYS, seed=5, temperature=2.0, top_k=9, top_p=0.9, allowed_token_ids=[VOCAB - 1, 6]
    ),
    "both": SamplingParams(
        **ALWAYS, seed=6, logit_bias={8: 100.0, 11: -100.0}, allowed_token_ids=[11, 12]
    ),
}


def generate(executor: Any, folder: Path) -> dict[str, list[int]]:
    """All kinds at once, twice."""
    config = EngineConfig(model=str(folder), max_num_seqs=8, max_num_batched_tokens=48)
    core = EngineCore(config, executor, is_debugging=True)
    numbers = random.Random(8)  # noqa: S311
    for again in range(2):
        for kind, params in KINDS.items():
            prompt = [numbers.randrange(3, VOCAB) for _ in range(14)]
            core.add(AddRequest(f"{kind}{again}", prompt, params))
    return run_to_end(core)


def test_host_and_device_draw_the_same_tokens_as_the_definition_says(llama: Path) -> None:
    outputs = generate(make_executor(llama), llama)
    assert generate(make_gpu_executor(llama, max_num_seqs=8), llama) == outputs
    tight = make_gpu_executor(llama, max_num_seqs=8, num_blocks=12)
    assert generate(tight, llama) == outputs, "a preemption changed something"
    for again in "01":
        assert set(outputs["biased" + again]) <= {7, 9}
        assert set(outputs["allowed" + again]) == {5, 31, 32, 64}
        assert set(outputs["filtered" + again]) == {VOCAB - 1, 6}
        assert set(outputs["both" + again]) == {12}
        assert sum(token % 3 == 0 for token in outputs["weakly" + again]) > LENGTH / 3
        assert len(set(outputs["plain" + again])) > 2


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_mask_allows_what_it_names_and_nothing_else(data: st.DataObject) -> None:
    vocab = data.draw(st.integers(1, 100))
    allowed = data.draw(st.sets(st.integers(0, vocab - 1), min_size=1))
    scores = np.arange(vocab, dtype=np.float32)
    apply_on_host(mask_of(sorted(allowed), vocab), scores)
    assert set(np.flatnonzero(np.isfinite(scores)).tolist()) == allowed
    assert all(scores[token] == token for token in allowed)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_filter_and_no_temperature_brings_a_token_back(data: st.DataObject) -> None:
    vocab = data.draw(st.integers(2, 300))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    allowed = data.draw(st.sets(st.integers(0, vocab - 1), min_size=1, max_size=4))
    params = SamplingParams(
        temperature=data.draw(st.sampled_from([0.0, 0.3, 1.0, 50.0])),
        top_k=data.draw(st.sampled_from([0, 1, 5, 1000])),
        top_p=data.draw(st.sampled_from([1.0, 0.9, 1e-6])),
        min_p=data.draw(st.sampled_from([0.0, 0.1, 1.0])),
        seed=data.draw(st.integers(0, 100)),
        allowed_token_ids=sorted(allowed),
    )
    logits = torch.from_numpy(rng.normal(scale=9.0, size=(1, vocab)).astype(np.float32))
    for _ in range(3):
        (token,) = Sampler(0).sample(logits, [0], [SamplingState(params, params.seed, (), ())])
        assert token.token_id in allowed


@pytest.mark.parametrize(
    ("fields", "parameter", "message"),
    [
        ({"logit_bias": {1: 101}}, "logit_bias.1", "[-100, 100]"),
        ({"logit_bias": {1: float("nan")}}, "logit_bias.1", "nan"),
        ({"logit_bias": [1]}, "logit_bias", "map token ids to numbers"),
        ({"logit_bias": {"a": 1}}, "logit_bias", "map token ids to numbers"),
        ({"allowed_token_ids": []}, "allowed_token_ids", "not empty"),
        ({"allowed_token_ids": ["a"]}, "allowed_token_ids", "token ids"),
    ],
)
def test_what_has_no_meaning_is_refused_by_name(
    fields: dict[str, Any], parameter: str, message: str
) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        SamplingParams(**fields)
    assert caught.value.parameter == parameter
    assert message in str(caught.value)


@pytest.mark.parametrize("token_id", [-1, VOCAB])
@pytest.mark.parametrize("field", ["logit_bias", "allowed_token_ids"])
def test_a_token_that_the_model_lacks_is_refused(llama: Path, field: str, token_id: int) -> None:
    core = EngineCore(EngineConfig(model=str(llama)), make_executor(llama))
    value: Any = {token_id: 1.0} if field == "logit_bias" else [0, token_id]
    with pytest.raises(InvalidParameterError, match=rf"{field} holds the token id {token_id};"):
        core.add(AddRequest("a", [1], SamplingParams(**{field: value})))
    assert not core.has_work
