"""`LLM` against transformers on the same weights, token for token."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo import LLM, SamplingParams
from octavo.beam_search import BeamSearchParams
from octavo.engine.messages import StepOutputs
from octavo.errors import (
    ContextLengthExceededError,
    InvalidConfigurationError,
    InvalidParameterError,
    ModelNotFoundError,
    OctavoError,
)

_KV_BYTES_PER_TOKEN = 2 * 2 * 2 * 16 * 4  # keys and values, layers, KV heads, head size, float32
_LENGTHS = [1, 5, 15, 16, 17, 33, 64, 2, 100, 31]


@dataclass(frozen=True)
class Model:
    folder: Path
    reference: Any
    prompts: list[list[int]]
    expected: list[list[int]]


@pytest.fixture(scope="module")
def model(tiny_llama: Any) -> Model:
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randint(1, 250, (n,), generator=generator).tolist() for n in _LENGTHS]
    expected = [tiny_llama.greedy(prompt, 24) for prompt in prompts]
    return Model(tiny_llama.folder, tiny_llama.reference, prompts, expected)


def make_llm(model: Model, num_kv_tokens: int = 4096, **options: Any) -> LLM:
    return LLM(
        str(model.folder),
        dtype="float32",
        device="cpu",
        kv_cache_memory_bytes=num_kv_tokens * _KV_BYTES_PER_TOKEN,
        **options,
    )


@pytest.fixture(scope="module")
def llm(model: Model) -> Iterator[LLM]:
    with make_llm(model) as llm:
        yield llm


GREEDY = SamplingParams(temperature=0.0, max_tokens=24)


def tokens_of(outputs: list[Any]) -> list[list[int]]:
    return [output.outputs[0].token_ids for output in outputs]


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
        assert [output.num_cached_tokens for output in first] == [0] * len(_LENGTHS)
        found = [(length - 1) // 16 * 16 for length in _LENGTHS]
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


def test_a_prompt_that_is_too_long_is_refused_and_nothing_stays(model: Model, llm: LLM) -> None:
    with pytest.raises(
        ContextLengthExceededError, match="has 300 tokens, but the context holds 256"
    ):
        llm.generate([model.prompts[0], [1] * 300], GREEDY)
    assert llm.stats.num_waiting == 0
    assert tokens_of(llm.generate(model.prompts[:1], GREEDY)) == model.expected[:1]


def test_beam_search_refuses_a_prompt_that_is_too_long(llm: LLM) -> None:
    with pytest.raises(ContextLengthExceededError, match="has 256 tokens"):
        llm.beam_search([[1] * 256])


def test_a_list_of_another_length_is_refused(llm: LLM) -> None:
    with pytest.raises(InvalidParameterError, match="2 prompts and 1 sampling_params"):
        llm.generate(["a", "b"], [GREEDY])


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(ModelNotFoundError, match="/does/not/exist"):
        LLM("/does/not/exist")


def test_after_shutdown_it_says_so(model: Model) -> None:
    llm = make_llm(model)
    llm.shutdown()
    with pytest.raises(OctavoError, match="was shut down"):
        llm.generate("hello")


def test_a_cache_of_half_the_size_holds_twice_the_tokens(model: Model) -> None:
    with make_llm(model, 64) as wide, make_llm(model, 64, kv_cache_dtype="bfloat16") as narrow:
        assert narrow.stats.kv_blocks_total == 2 * wide.stats.kv_blocks_total


@pytest.mark.parametrize("name", ["kv_cache_dtype", "device", "load_format", "quantization"])
def test_a_value_that_is_none_of_those_known_is_refused_by_name(model: Model, name: str) -> None:
    with pytest.raises(InvalidConfigurationError, match=f"{name} is 'int3'; use "):
        LLM(str(model.folder), **{name: "int3"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields",
    [
        {"stop": 5},
        {"stop": [5]},
        {"stop": b"x"},
        {"stop_token_ids": ["a"]},
        {"stop_token_ids": 5},
        {"ignore_eos": "yes"},
        {"skip_special_tokens": None},
        {"max_tokens": "8"},
    ],
    ids=str,
)
def test_a_sampling_parameter_of_the_wrong_kind_is_named(fields: dict[str, Any]) -> None:
    ((name, value),) = fields.items()
    with pytest.raises(InvalidParameterError, match=f"^{name} is {re.escape(repr(value))}; it"):
        SamplingParams(**fields)


def test_limits_are_told_to_the_last_digit() -> None:
    with pytest.raises(InvalidParameterError, match=r"an integer in \[1, 2147483647\]"):
        SamplingParams(max_tokens=0)


def test_prompts_may_stand_in_dictionaries(model: Model, llm: LLM) -> None:
    text = llm.generate("hello", GREEDY)
    ids = llm.generate(model.prompts[1], GREEDY)
    assert tokens_of(llm.generate({"prompt": "hello"}, GREEDY)) == tokens_of(text)
    both: list[Any] = [{"prompt_token_ids": model.prompts[1]}, {"prompt": "hello"}]
    assert tokens_of(llm.generate(both, GREEDY)) == tokens_of(ids + text)


@pytest.mark.parametrize(
    "prompts",
    [None, 5, b"abc", [None], [b"a"], [["a"]], {"prompt": [1]}, {"text": "a"}, [{"prompt": 5}]],
    ids=str,
)
def test_other_kinds_of_prompts_are_refused(llm: LLM, prompts: Any) -> None:
    for method in (llm.generate, llm.embed, llm.beam_search):
        with pytest.raises(InvalidParameterError, match="A prompt is a text, a list of token ids"):
            method(prompts)


def test_half_a_surrogate_pair_is_refused(llm: LLM) -> None:
    with pytest.raises(InvalidParameterError, match="half of a surrogate pair"):
        llm.generate("a\ud800")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"sampling_params": {"temperature": 0}},
            "sampling_params holds {'temperature': 0}; it must",
        ),
        ({"priority": "high"}, "priority holds 'high'; it must be int"),
        ({"priority": [1.5]}, "priority holds 1.5"),
    ],
)
def test_other_arguments_are_refused_by_name(
    llm: LLM, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidParameterError, match=re.escape(message)):
        llm.generate(["a"], **arguments)
    assert llm.stats.num_waiting == 0


@pytest.mark.parametrize("messages", ["hello", [["hello"]], [{"role": "user"}, "hello"], 5])
def test_what_is_no_conversation_is_refused(llm: LLM, messages: Any) -> None:
    with pytest.raises(InvalidParameterError, match="A conversation is a list of messages"):
        llm.chat(messages)


def test_ctrl_c_ends_a_call_between_two_steps(
    model: Model, llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a terminal; what a shell starts in the background ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    core = llm._engine()
    allocate = core._blocks.allocate

    def interrupted(sequence_id: int, num_tokens: int) -> None:
        signal.raise_signal(signal.SIGINT)  # while the sequence has a table and does not run yet
        allocate(sequence_id, num_tokens)

    calls: list[Any] = [llm.generate, llm.embed, llm.beam_search]
    try:
        for call in calls:
            with monkeypatch.context() as patch:
                patch.setattr(core._blocks, "allocate", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    call(model.prompts[1:4])
            core.check_integrity()
            assert (llm.stats.kv_blocks_used, llm.stats.num_waiting) == (0, 0)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert tokens_of(llm.generate(model.prompts, GREEDY)) == model.expected


def test_a_thread_without_signals_may_generate(model: Model, llm: LLM) -> None:
    with ThreadPoolExecutor(1) as threads:
        outputs = threads.submit(llm.generate, model.prompts[:2], GREEDY).result()
    assert tokens_of(outputs) == model.expected[:2]


def test_a_caller_that_handles_ctrl_c_itself_goes_on_doing_so(model: Model, llm: LLM) -> None:
    seen = []
    before = signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    try:
        core = llm._engine()
        seen_at_step: list[int] = []
        run_step = core.step

        def step() -> StepOutputs:
            if not seen_at_step:
                signal.raise_signal(signal.SIGINT)
            seen_at_step.append(len(seen))
            return run_step()

        core.step = step  # type: ignore[method-assign]
        try:
            assert tokens_of(llm.generate(model.prompts[:1], GREEDY)) == model.expected[:1]
        finally:
            del core.step
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT]
    assert seen_at_step[:2] == [0, 1]
