"""`LLM` against transformers on the same weights, token for token."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from octavo import LLM, SamplingParams
from octavo.engine.messages import StepOutputs
from octavo.errors import OctavoError
from tests.support.runtime.llm_on_llama import GREEDY, LENGTHS, Model, make_llm, tokens_of


def test_a_mixed_batch_equals_transformers(model: Model, llm: LLM) -> None:
    outputs = llm.generate(model.prompts, GREEDY)
    assert tokens_of(outputs) == model.expected
    assert [output.prompt_token_ids for output in outputs] == model.prompts


@pytest.mark.parametrize(("num_seqs", "num_tokens"), [(4, 7), (1, 1)])
def test_chunked_prefill_changes_nothing(model: Model, num_seqs: int, num_tokens: int) -> None:
    with make_llm(model, max_num_seqs=num_seqs, max_num_batched_tokens=num_tokens) as llm:
        assert tokens_of(llm.generate(model.prompts, GREEDY)) == model.expected


def test_preemption_changes_nothing(model: Model) -> None:
    with make_llm(model, num_kv_tokens=160, max_model_len=128) as llm:
        assert tokens_of(llm.generate(model.prompts, GREEDY)) == model.expected
        assert llm.stats.preemptions_total > 0


def test_the_prefix_cache_changes_nothing(model: Model) -> None:
    with make_llm(model) as llm:
        first = llm.generate(model.prompts, GREEDY)
        again = llm.generate(model.prompts, GREEDY)
        assert tokens_of(first) == tokens_of(again) == model.expected
        assert [output.num_cached_tokens for output in first] == [0] * len(LENGTHS)
        found = [(length - 1) // 16 * 16 for length in LENGTHS]
        assert [output.num_cached_tokens for output in again] == found
        assert llm.stats.prefix_cache_hit_tokens_total == sum(found)


def test_a_prompt_of_several_completions_is_stored_once(model: Model) -> None:
    prompt, expected = model.prompts[8], model.expected[8]
    params = SamplingParams(temperature=0.0, max_tokens=24, n=4)
    for caching in (True, False):
        with make_llm(
            model, num_kv_tokens=224, max_model_len=128, enable_prefix_caching=caching
        ) as llm:
            (output,) = llm.generate([prompt], params)
            assert [completion.token_ids for completion in output.outputs] == [expected] * 4
            # 6 blocks of the prompt, and 2 of each completion's own: 14 are all there are.
            assert llm.stats.preemptions_total == 0


def test_priority_decides_who_goes_first(model: Model) -> None:
    with make_llm(model, max_num_seqs=1) as llm:
        seen: list[str] = []
        core = llm._engine()
        run_step = core.step

        def step() -> StepOutputs:
            done = run_step()
            seen.extend(output.request_id for output in done.outputs if output.finish_reason)
            return done

        core.step = step  # type: ignore[method-assign]
        outputs = llm.generate(model.prompts[:3], GREEDY, priority=[2, 0, 1])
        assert tokens_of(outputs) == model.expected[:3]
        assert seen == [outputs[1].request_id, outputs[2].request_id, outputs[0].request_id]


def test_everything_is_free_afterwards(llm: LLM) -> None:
    llm.generate("hello", GREEDY)
    assert (llm.stats.kv_blocks_used, llm.stats.num_running, llm.stats.num_waiting) == (0, 0, 0)


def test_a_seed_fixes_the_output_whatever_runs_beside_it(model: Model, llm: LLM) -> None:
    seeded = SamplingParams(temperature=1.0, seed=11, max_tokens=16, n=2, ignore_eos=True)
    others = [
        GREEDY,
        SamplingParams(temperature=0.9, top_p=0.8, max_tokens=20),
        SamplingParams(seed=11, frequency_penalty=0.5, logprobs=2, max_tokens=9),
    ]
    (alone,) = llm.generate([model.prompts[1]], seeded)
    prompts = [model.prompts[1 + position % 9] for position in range(32)]
    params = [seeded if position == 18 else others[position % 3] for position in range(32)]
    beside = llm.generate(prompts, params)[18]
    assert beside.prompt_token_ids == alone.prompt_token_ids
    assert [o.token_ids for o in alone.outputs] == [o.token_ids for o in beside.outputs]
    first, second = alone.outputs
    assert first.token_ids != second.token_ids


def test_each_prompt_takes_its_own_parameters(model: Model, llm: LLM) -> None:
    params = [SamplingParams(temperature=0.0, max_tokens=count + 1) for count in range(3)]
    outputs = llm.generate(model.prompts[2:5], params)
    wanted = [model.expected[2 + position][: position + 1] for position in range(3)]
    assert tokens_of(outputs) == wanted


def test_text_prompts_are_tokenized_and_outputs_are_text(llm: LLM) -> None:
    (output,) = llm.generate("hello", GREEDY)
    tokenizer = llm.get_tokenizer()
    assert output.prompt == "hello"
    assert output.prompt_token_ids == tokenizer.encode("hello")
    completion = output.outputs[0]
    whole = tokenizer.decode(completion.token_ids)
    assert completion.text == whole.rstrip("\ufffd") or completion.text == whole


def test_a_stop_string_ends_one_completion_alone(model: Model, llm: LLM) -> None:
    texts = [output.outputs[0].text for output in llm.generate(model.prompts, GREEDY)]
    position = max(range(len(texts)), key=lambda index: len(texts[index]))
    stop = texts[position][5:7]
    stopping = SamplingParams(temperature=0.0, max_tokens=24, stop=stop)
    outputs = llm.generate(
        model.prompts, [stopping if index == position else GREEDY for index in range(len(texts))]
    )
    stopped = outputs.pop(position).outputs[0]
    assert stopped.text == texts[position][: texts[position].index(stop)]
    assert (stopped.finish_reason, stopped.stop_reason) == ("stop", stop)
    del texts[position]
    assert [output.outputs[0].text for output in outputs] == texts


def test_logprobs_are_those_of_transformers(model: Model, llm: LLM) -> None:
    prompt = model.prompts[4]
    params = SamplingParams(temperature=0.0, max_tokens=4, logprobs=3)
    completion = llm.generate([prompt], params)[0].outputs[0]
    assert completion.logprobs is not None
    tokens = [*prompt, *completion.token_ids]
    with torch.no_grad():
        logits = model.reference(torch.tensor([tokens])).logits[0].log_softmax(-1)
    for position, logprobs in enumerate(completion.logprobs):
        best = logits[len(prompt) - 1 + position].topk(3)
        assert list(logprobs) == best.indices.tolist()
        assert [entry.rank for entry in logprobs.values()] == [1, 2, 3]
        values = [entry.logprob for entry in logprobs.values()]
        assert values == pytest.approx(best.values.tolist(), abs=1e-4)
    total = sum(next(iter(entry.values())).logprob for entry in completion.logprobs)
    assert completion.cumulative_logprob == pytest.approx(total)


def test_chat_goes_through_the_template(llm: LLM) -> None:
    conversation = [{"role": "user", "content": "hello"}]
    one, two = llm.chat([conversation, conversation], GREEDY)
    assert one.prompt == "<user>hello<assistant>"
    (alone,) = llm.chat(conversation, GREEDY)
    (completed,) = llm.generate("<user>hello<assistant>", GREEDY)
    assert tokens_of([one, two, alone]) == tokens_of([completed]) * 3


def test_after_shutdown_it_says_so(model: Model) -> None:
    llm = make_llm(model)
    llm.shutdown()
    with pytest.raises(OctavoError, match="was shut down"):
        llm.generate("hello")


def test_a_cache_of_half_the_size_holds_twice_the_tokens(model: Model) -> None:
    with make_llm(model, 64) as wide, make_llm(model, 64, kv_cache_dtype="bfloat16") as narrow:
        assert narrow.stats.kv_blocks_total == 2 * wide.stats.kv_blocks_total


def test_prompts_may_stand_in_dictionaries(model: Model, llm: LLM) -> None:
    text = llm.generate("hello", GREEDY)
    ids = llm.generate(model.prompts[1], GREEDY)
    assert tokens_of(llm.generate({"prompt": "hello"}, GREEDY)) == tokens_of(text)
    both: list[Any] = [{"prompt_token_ids": model.prompts[1]}, {"prompt": "hello"}]
    assert tokens_of(llm.generate(both, GREEDY)) == tokens_of(ids + text)
