"""Log-probabilities of a prompt's own tokens against those of transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from octavo import LLM, SamplingParams
from octavo.outputs import RequestOutput
from tests.support.runtime.llm_on_llama import GREEDY, Model, make_llm, tokens_of

SCORED = SamplingParams(temperature=0.0, max_tokens=4, prompt_logprobs=3)


def expected(model: Model, prompt: list[int]) -> Any:
    """`[tokens - 1, vocab]`, of what follows each token but the last."""
    with torch.no_grad():
        logits = model.reference(torch.tensor([prompt])).logits[0, :-1]
    return torch.log_softmax(logits.double(), dim=-1)


def check(model: Model, prompt: list[int], output: RequestOutput, num_best: int = 3) -> None:
    told = output.prompt_logprobs
    assert told is not None
    assert len(told) == len(prompt)
    assert told[0] is None
    for token_id, position, row in zip(prompt[1:], told[1:], expected(model, prompt), strict=True):
        assert position is not None
        assert next(iter(position)) == token_id
        assert position[token_id].rank == 1 + int((row > row[token_id]).sum())
        best = row.topk(num_best).indices.tolist()
        assert set(position) == {token_id, *best}
        for name, logprob in position.items():
            assert logprob.logprob == pytest.approx(float(row[name]), abs=1e-4)


def test_each_token_of_random_prompts(model: Model, llm: LLM) -> None:
    llm.generate(model.prompts, GREEDY)  # whose blocks stay in the prefix cache
    outputs = llm.generate(model.prompts, SCORED)
    for prompt, output in zip(model.prompts, outputs, strict=True):
        check(model, prompt, output)
        assert output.num_cached_tokens == 0


def test_nobody_who_did_not_ask_gets_them_or_pays_for_them(model: Model, llm: LLM) -> None:
    params = [SCORED if place % 2 else GREEDY for place in range(len(model.prompts))]
    outputs = llm.generate(model.prompts, params)
    assert [output.prompt_logprobs is not None for output in outputs] == [
        one is SCORED for one in params
    ]
    plain = [output for output, one in zip(outputs, params, strict=True) if one is GREEDY]
    wanted = [tokens for tokens, one in zip(model.expected, params, strict=True) if one is GREEDY]
    assert tokens_of(plain) == wanted
    before = llm.stats.prefix_cache_hit_tokens_total
    llm.generate([model.prompts[8]], GREEDY)  # of 100 tokens
    assert llm.stats.prefix_cache_hit_tokens_total == before + 96


def test_chunks_of_a_prompt_and_a_cache_that_runs_out(model: Model) -> None:
    with make_llm(model, num_kv_tokens=160, max_num_batched_tokens=7, max_num_seqs=5) as llm:
        params = [
            SamplingParams(temperature=0.0, max_tokens=40, prompt_logprobs=3, ignore_eos=True)
        ] * len(model.prompts)
        outputs = llm.generate(model.prompts, params)
        assert llm.stats.preemptions_total
    for prompt, output in zip(model.prompts, outputs, strict=True):
        check(model, prompt, output)


@pytest.mark.parametrize("caching", [True, False])
def test_several_completions_compute_the_prompt_once(model: Model, caching: bool) -> None:
    params = SamplingParams(n=4, temperature=1.0, seed=3, max_tokens=6, prompt_logprobs=3)
    with make_llm(model, enable_prefix_caching=caching) as llm:
        (output,) = llm.generate([model.prompts[8]], params)
        assert len(output.outputs) == 4
        check(model, model.prompts[8], output)
        # The prompt whole, its last token once more for each of the others.
        assert llm.stats.prompt_tokens_total == 100


def test_the_prompt_alone(model: Model, llm: LLM) -> None:
    """Without a token of output, also where the context has no room for one."""
    params = SamplingParams(max_tokens=0, prompt_logprobs=0)
    full = (model.prompts[8] * 3)[:256]
    for prompt, output in zip(
        [model.prompts[3], full], llm.generate([model.prompts[3], full], params), strict=True
    ):
        assert output.outputs[0].token_ids == []
        assert output.outputs[0].text == ""
        assert output.outputs[0].finish_reason == "length"
        assert output.prompt_logprobs is not None
        told = [
            next(iter(position.values())).logprob for position in output.prompt_logprobs if position
        ]
        wanted = expected(model, prompt).gather(1, torch.tensor(prompt[1:])[:, None])[:, 0]
        assert told == pytest.approx(wanted.tolist(), abs=1e-4)


def test_a_prompt_of_one_token_has_nothing_to_be_scored(llm: LLM) -> None:
    (output,) = llm.generate([[5]], SCORED)
    assert output.prompt_logprobs == [None]
