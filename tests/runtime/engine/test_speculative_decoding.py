"""With drafts an engine says what it says without them, whatever a request asks for and whatever runs beside
it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from octavo import LLM, SamplingParams
from octavo.errors import InvalidConfigurationError, ModelUnsupportedError, OutOfMemoryError
from octavo.lora import LoRARequest
from octavo.structured_outputs import StructuredOutputsParams
from tests.support.runtime.adapters import save_adapter
from tests.support.runtime.gpu_engine import started_as_on_gpus
from tests.support.runtime.speculating import (
    CASES,
    DRAFTS,
    PROMPTS,
    assert_guesses_come_true_after_cached_answers,
    counts,
    open_llm,
    speculating,
    told,
)
from tests.support.runtime.tiny_llama import save_tiny_llama


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = tmp_path_factory.mktemp("model")
    save_tiny_llama(made, initializer_range=0.1)  # flatter, so that draws differ
    return made


@pytest.fixture(scope="module")
def roomy(folder: Any) -> Iterator[LLM]:
    with open_llm(folder, 4096) as llm:
        yield llm


@pytest.fixture(scope="module")
def cramped(folder: Any) -> Iterator[LLM]:
    """Blocks for about two of the sequences."""
    with open_llm(folder, 160, max_model_len=112, max_num_batched_tokens=24, max_num_seqs=8) as llm:
        yield llm


@pytest.mark.parametrize("case", CASES)
def test_answers_are_those_without_drafts(roomy: LLM, case: str) -> None:
    goes_on = "stop" not in case and case != "grammar"
    params = SamplingParams(**{"max_tokens": 32, "ignore_eos": goes_on} | CASES[case])
    assert roomy._core is not None
    roomy._core._speculation = None
    plain = roomy.generate(PROMPTS, params)
    speculation = speculating(roomy, plain)
    assert told(roomy.generate(PROMPTS, params)) == told(plain)
    length = sum(len(one.token_ids) for output in plain for one in output.outputs)
    assert sum(speculation.counts.num_accepted) > length / 8
    assert speculation.counts.num_draft_tokens > sum(speculation.counts.num_accepted)


@pytest.mark.parametrize("case", ["greedy", "n", "penalties", "grammar"])
def test_answers_stay_where_sequences_lose_their_blocks(
    roomy: LLM, cramped: LLM, case: str
) -> None:
    fields = {"max_tokens": 48, "ignore_eos": case != "grammar"} | CASES[case]
    if case == "grammar":  # each answer takes two blocks more, at least
        fields["structured_outputs"] = StructuredOutputsParams(regex="(ab|cd|efg){16,20}")
    params = SamplingParams(**fields)
    assert roomy._core is not None
    assert cramped._core is not None
    roomy._core._speculation = None
    plain = roomy.generate(PROMPTS, params)
    speculation = speculating(cramped, plain)
    before = cramped._core.stats().preemptions_total
    outputs = cramped.generate(PROMPTS, params)
    assert told(outputs) == told(plain)
    assert cramped._core.stats().preemptions_total > before
    assert sum(speculation.counts.num_accepted) > 0


def test_blocks_of_accepted_tokens_alone_are_found_again(roomy: LLM) -> None:
    params = SamplingParams(temperature=0.0, max_tokens=32, ignore_eos=True)
    assert roomy._core is not None
    roomy._core._speculation = None
    prompt = [41, 42, 43, 44, 45]
    plain = roomy.generate([prompt], params)
    speculating(roomy, plain)
    first = roomy.generate([prompt], params)
    longer = [*prompt, *first[0].outputs[0].token_ids, 3, 4]
    roomy._core._speculation = None
    again = roomy.generate([longer], params)
    assert again[0].num_cached_tokens == (len(prompt) + 31) // 16 * 16
    with open_llm(roomy._folder, 4096, enable_prefix_caching=False) as fresh:
        assert told(again) == told(fresh.generate([longer], params))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model of one layer with the same vocabulary."""
    made = tmp_path_factory.mktemp("draft")
    save_tiny_llama(made, num_hidden_layers=1, initializer_range=0.1)
    return made


DRAWN_WAYS = ["greedy", "n", "filters", "penalties"]


@pytest.mark.parametrize(
    ("is_itself", "caches_prefixes", "least"),
    [(True, False, 0.99), (True, True, 0.99), (False, True, 0.0)],
)
def test_a_draft_model_changes_no_answer(
    roomy: LLM, folder: Any, other: Any, is_itself: bool, caches_prefixes: bool, least: float
) -> None:
    """As its own draft a model is right, under the same random numbers too, also behind cached blocks that it
    never read as a draft."""
    config = {
        "method": "draft_model",
        "model": str(folder if is_itself else other),
        "num_speculative_tokens": DRAFTS,
    }
    options = {"max_model_len": 112, "max_num_batched_tokens": 24, "max_num_seqs": 8}
    options["enable_prefix_caching"] = caches_prefixes
    assert roomy._core is not None
    with open_llm(folder, 320, speculative_config=config, **options) as llm:
        core = llm._core
        assert core is not None
        core._stopwatch = lambda: 0.0
        for case in DRAWN_WAYS:
            params = SamplingParams(**{"max_tokens": 40, "ignore_eos": True} | CASES[case])
            roomy._core._speculation = None
            before = counts(llm)
            assert told(llm.generate(PROMPTS, params)) == told(roomy.generate(PROMPTS, params))
            tried, accepted = (b - a for a, b in zip(before, counts(llm), strict=True))
            if is_itself and case != "penalties":  # it knows of none
                assert accepted >= max(50, least * tried)
            elif is_itself:
                assert accepted > 0
        assert core.stats().preemptions_total > 0
        assert core.stats().spec_decode_drafts_total > 0
        if is_itself and caches_prefixes:
            assert_guesses_come_true_after_cached_answers(llm)


@pytest.mark.parametrize("path", [nullcontext, started_as_on_gpus])
@pytest.mark.parametrize("method", ["ngram", "draft_model"])
def test_adapters_say_the_same_with_drafts(
    tmp_path: Path, method: str, path: Callable[[], AbstractContextManager[None]]
) -> None:
    """Beside each other and the model alone, in one batch. A draft model guesses without them."""
    model = save_tiny_llama(tmp_path / "base")  # repeats itself, so that n-grams come true
    adapters = [LoRARequest(name, i, str(tmp_path / name)) for i, name in ((1, "a"), (2, "b"))]
    for one in adapters:
        save_adapter(Path(one.lora_path), model, seed=one.lora_int_id, lora_alpha=0.5)
    config: dict[str, Any] = {"method": method, "num_speculative_tokens": DRAFTS}
    if method == "draft_model":
        config["model"] = str(tmp_path / "base")
    options = {"enable_lora": True, "max_loras": 2}
    prompts = [prompt for prompt in PROMPTS for _ in range(3)]
    wanted = [None, *adapters] * len(PROMPTS)
    params = SamplingParams(temperature=0.0, max_tokens=64, ignore_eos=True, logprobs=0)
    with open_llm(tmp_path / "base", 2048, **options) as plain:
        expected = told(plain.generate(prompts, params, lora_request=wanted))
    assert len({tuple(ids) for ids, *_ in expected[: len(prompts)]}) == len(prompts)
    with path(), open_llm(tmp_path / "base", 2048, speculative_config=config, **options) as llm:
        assert llm._core is not None
        llm._core._stopwatch = lambda: 0.0
        llm.generate(PROMPTS, params, lora_request=adapters[0])
        tried, accepted = counts(llm)
        assert 5 < accepted < tried  # of an adapter's answers
        assert told(llm.generate(prompts, params, lora_request=wanted)) == expected
        assert counts(llm)[1] > 2 * accepted


def test_a_draft_model_of_another_vocabulary_is_refused(folder: Any) -> None:
    config = {"method": "draft_model", "model": "builtin://demo"}
    with pytest.raises(InvalidConfigurationError, match=r"another vocabulary .*: token \d+ is "):
        open_llm(folder, 320, speculative_config=config)


def test_a_draft_model_of_other_tokens_is_refused_by_the_first(
    folder: Path, other: Path, tmp_path: Path
) -> None:
    """Of as many: nobody could tell by their number."""
    shutil.copytree(other, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "tokenizer.json"
    told = json.loads(path.read_text())
    of = {token_id: token for token, token_id in told["model"]["vocab"].items()}
    config = {"method": "draft_model", "model": str(tmp_path)}
    told["model"]["vocab"] |= {of[20]: 21, of[21]: 20}
    path.write_text(json.dumps(told))
    with pytest.raises(InvalidConfigurationError) as refused:
        open_llm(folder, 320, speculative_config=config)
    assert f"token 20 is {of[21]!r} there and {of[20]!r} in the model" in str(refused.value)


def test_a_draft_model_that_cannot_be_loaded_is_told_from_the_model(
    folder: Any, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["NobodysModel"]}')
    config = {"method": "draft_model", "model": str(tmp_path)}
    with pytest.raises(ModelUnsupportedError, match=f"^The draft model in {tmp_path}: "):
        open_llm(folder, 320, speculative_config=config)


@pytest.mark.parametrize("num_seqs", [1, 3])
def test_the_cache_holds_what_the_sequences_fill_of_both_models(folder: Any, num_seqs: int) -> None:
    """The memory is divided first: what the sequences cannot fill is no loss to the draft model."""
    config = {"method": "draft_model", "model": str(folder)}
    with open_llm(folder, 2048, max_num_seqs=num_seqs, speculative_config=config) as llm:
        assert llm._core is not None
        info = llm._core.executor_info
        assert (info.max_model_len, info.num_kv_blocks) == (256, 16 * num_seqs)


def test_the_memory_that_a_refusal_names_is_enough_for_both_models(folder: Any) -> None:
    config = {"method": "draft_model", "model": str(folder)}
    options = {"max_num_seqs": 1, "max_model_len": 256, "speculative_config": config}
    with pytest.raises(OutOfMemoryError, match=r"holds 240 tokens\. .* raise --kv-cache-memory to"):
        open_llm(folder, 2 * 256 - 1, **options)
    with open_llm(folder, 2 * 256, **options) as llm:
        assert llm.max_model_len == 256
