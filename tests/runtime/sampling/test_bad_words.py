"""Bad words: none of their token sequences is generated, everything else is; the same on host and device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from octavo import LLM, SamplingParams
from octavo.bad_words import with_word_tokens
from octavo.config import EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.messages import AddRequest
from octavo.errors import InvalidParameterError
from octavo.structured_outputs import StructuredOutputsParams
from tests.support.runtime.checkpoints import VOCAB
from tests.support.runtime.gpu_path import make_gpu_executor
from tests.support.runtime.stepping import make_executor, run_to_end

SINGLE = [[token] for token in range(0, VOCAB, 3)]
# After any token of the first half another one of it must not follow.
PAIRS = [[one, other] for one in range(VOCAB // 2) for other in range(VOCAB // 2)]
TRIPLES = [[one, other, one] for one in range(0, VOCAB, 2) for other in range(0, VOCAB, 2)]
WORDS = {"none": [], "single": SINGLE, "pairs": PAIRS, "triples": TRIPLES, "both": SINGLE + TRIPLES}


def generate(executor: Any, folder: Path) -> dict[str, list[int]]:
    config = EngineConfig(model=str(folder), max_num_seqs=8, max_num_batched_tokens=48)
    core = EngineCore(config, executor, is_debugging=True)
    for seed in range(3):
        for name, words in WORDS.items():
            params = SamplingParams(
                seed=seed,
                temperature=2.0,
                max_tokens=30,
                bad_words_token_ids=words,
                ignore_eos=True,
            )
            core.add(AddRequest(f"{name} {seed}", [5, 6, 7] * 5, params))
    return run_to_end(core)


def holds(tokens: list[int], words: list[list[int]]) -> bool:
    found = {tuple(word) for word in words}
    return any(
        tuple(tokens[start : start + length]) in found
        for length in {len(word) for word in words}
        for start in range(len(tokens))
    )


def test_no_word_is_generated_on_host_or_device(llama: Path) -> None:
    outputs = generate(make_executor(llama), llama)
    for name, tokens in outputs.items():
        assert not holds(tokens, WORDS[name.split()[0]])
        assert len(tokens) == 30
    for words in (SINGLE, PAIRS):
        assert all(holds(outputs[f"none {seed}"], words) for seed in range(3))
    assert any(token < VOCAB // 2 for token in outputs["pairs 0"])  # alone they are no word
    assert generate(make_gpu_executor(llama, max_num_seqs=8), llama) == outputs
    assert generate(make_gpu_executor(llama, max_num_seqs=8, num_blocks=12), llama) == outputs


@pytest.fixture(scope="module")
def demo() -> Iterator[LLM]:
    with LLM("builtin://demo", kv_cache_memory="64Mi") as llm:
        yield llm


def test_a_word_is_not_written(demo: LLM) -> None:
    prompt = "What is Octavo?"
    plain = SamplingParams(temperature=0, max_tokens=24)
    text = demo.chat([{"role": "user", "content": prompt}], plain)[0].outputs[0].text
    word = max(text.split(), key=len).strip(".,")
    for words in ([word], [word, text.split()[0]]):
        params = SamplingParams(temperature=0, max_tokens=24, bad_words=words)
        other = demo.chat([{"role": "user", "content": prompt}], params)[0].outputs[0].text
        assert other != text
        assert not any(one in other.split() for one in words)


@pytest.mark.parametrize(
    ("fields", "parameter"),
    [
        ({"bad_words": [""]}, "bad_words"),
        ({"bad_words": [" "]}, "bad_words"),
        ({"bad_words": "word"}, "bad_words"),
        ({"bad_words": [5]}, "bad_words"),
        ({"bad_words": ["a"] * 1025}, "bad_words"),
        ({"bad_words_token_ids": [[]]}, "bad_words_token_ids"),
        ({"bad_words": ["a"], "allowed_token_ids": [5]}, "bad_words"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], parameter: str) -> None:
    with pytest.raises(InvalidParameterError) as refusal:
        SamplingParams(**fields)
    assert refusal.value.parameter == parameter


def test_what_only_the_tokenizer_or_the_model_knows_is_refused_too(llama: Path) -> None:
    with pytest.raises(InvalidParameterError, match="makes no token"):
        with_word_tokens(SamplingParams(bad_words=["a"]), lambda _: [])
    core = EngineCore(EngineConfig(model=str(llama)), make_executor(llama))
    beyond = SamplingParams(bad_words_token_ids=[[1, VOCAB]])
    with pytest.raises(InvalidParameterError, match=f"bad_words holds the token id {VOCAB}"):
        core.add(AddRequest("a", [5], beyond))
    beside = SamplingParams(bad_words_token_ids=[[1]], allowed_token_ids=[1])
    with pytest.raises(InvalidParameterError, match="together with allowed_token_ids"):
        core.add(AddRequest("a", [5], beside))
    outputs = StructuredOutputsParams(regex="a+", parameter="response_format")
    both = SamplingParams(bad_words=["a"], structured_outputs=outputs)
    with pytest.raises(InvalidParameterError, match="together with response_format"):
        core.add(AddRequest("b", [5], both))


def test_a_word_is_forbidden_at_the_begin_and_behind_a_space() -> None:
    ids = {"cat": [1], " cat": [2], "dog": [3, 4], " dog": [5, 4], "x": [6], " x": [7, 6]}
    params = with_word_tokens(SamplingParams(bad_words=["cat", " dog", "x"]), ids.__getitem__)
    assert params.bad_words_token_ids == [[1], [2], [3, 4], [5, 4], [6]]
