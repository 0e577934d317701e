"""`LLM.embed` against the hidden states of transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from octavo import LLM
from octavo.errors import InvalidParameterError


@pytest.fixture(scope="module")
def llm(tiny_llama: Any) -> LLM:
    # Steps of 8 tokens: the longer prompts come in chunks, beside the shorter ones.
    return LLM(
        str(tiny_llama.folder),
        dtype="float32",
        kv_cache_memory_bytes=4 * 2**20,
        max_num_seqs=4,
        max_num_batched_tokens=8,
    )


def test_embeddings_are_the_last_hidden_states_of_transformers(llm: LLM, tiny_llama: Any) -> None:
    prompts = [[5, 6, 7], list(range(3, 40)), [9], list(range(60, 80))]
    outputs = llm.embed(prompts)
    assert [output.prompt_token_ids for output in outputs] == prompts
    for prompt, output in zip(prompts, outputs, strict=True):
        with torch.no_grad():
            hidden = tiny_llama.reference.model(torch.tensor([prompt])).last_hidden_state[0, -1]
        expected = hidden / hidden.norm()
        torch.testing.assert_close(torch.tensor(output.embedding), expected, rtol=1e-3, atol=1e-4)


def test_texts_are_tokenized_and_nothing_stays_in_the_cache(llm: LLM) -> None:
    (output,) = llm.embed("hello")
    assert output.prompt_token_ids == llm.get_tokenizer().encode("hello")
    assert llm.stats.kv_blocks_used == 0


def test_a_prompt_that_is_too_long_is_refused(llm: LLM) -> None:
    with pytest.raises(InvalidParameterError, match="300 tokens"):
        llm.embed([[1] * 300])
    assert not llm.stats.num_waiting
