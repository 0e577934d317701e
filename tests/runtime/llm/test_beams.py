"""Beams of `LLM` against those of transformers."""

from __future__ import annotations

import pytest
import torch

from octavo import LLM
from octavo.beam_search import BeamSearchParams
from octavo.errors import ContextLengthExceededError
from tests.support.runtime.llm_on_llama import Model, make_llm


def test_beams_share_what_they_have_in_common(model: Model) -> None:
    params = BeamSearchParams(beam_width=3, max_tokens=12, ignore_eos=True)
    results = []
    for caching in (True, False):
        with make_llm(model, enable_prefix_caching=caching) as llm:
            (output,) = llm.beam_search([model.prompts[8]], params)
            results.append([completion.token_ids for completion in output.outputs])
            stats = llm.stats
            computed = stats.prompt_tokens_total - stats.prefix_cache_hit_tokens_total
            # 34 prefixes of 100 to 111 tokens: of each but the first one token.
            assert (computed == 100 + 33) == caching
    assert results[0] == results[1]


@pytest.mark.parametrize("ignore_eos", [True, False])
def test_beam_search_finds_what_transformers_finds(
    model: Model, llm: LLM, ignore_eos: bool
) -> None:
    params = BeamSearchParams(beam_width=3, max_tokens=12, ignore_eos=ignore_eos)
    for prompt in model.prompts[1:3]:
        expected = model.reference.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=12,
            num_beams=3,
            num_return_sequences=3,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
            pad_token_id=0,
            **({"eos_token_id": None} if ignore_eos else {}),
        )
        (output,) = llm.beam_search([prompt], params)
        got = [completion.token_ids for completion in output.outputs]
        wanted = [row.tolist() for row in expected.sequences[:, len(prompt) :]]
        assert got == [row[: len(tokens)] for row, tokens in zip(wanted, got, strict=True)]
        scores = [
            completion.cumulative_logprob / len(completion.token_ids)
            for completion in output.outputs
            if completion.cumulative_logprob is not None
        ]
        assert scores == pytest.approx(expected.sequences_scores.tolist(), abs=1e-4)


def test_beam_search_refuses_a_prompt_that_is_too_long(llm: LLM) -> None:
    with pytest.raises(ContextLengthExceededError, match="has 256 tokens"):
        llm.beam_search([[1] * 256])
