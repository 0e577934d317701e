from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer

from octavo.engine.messages import TokenLogprobs, TokenOutput
from octavo.engine.requests.marked_text import MarkedText, joined
from octavo.engine.requests.output_processor import (
    Delta,
    RequestState,
    num_characters_before,
)
from octavo.engine.requests.vocabulary import Vocabulary
from octavo.outputs import FinishReason
from octavo.sampling_params import SamplingParams
from tests.support.runtime.tokenizers_for_tests import byte_level_tokenizer, token_id

TOKENIZER = byte_level_tokenizer()
EOS = token_id(TOKENIZER, "<eos>")


def make_state(**sampling: Any) -> RequestState:
    prompt = TOKENIZER.encode("hello").ids
    return RequestState("r", "hello", prompt, SamplingParams(**sampling), TOKENIZER)


def feed(
    state: RequestState, text: str, finish: FinishReason | None = None, index: int = 0
) -> list[Delta]:
    """One output a token; the last one carries `finish`."""
    tokens = TOKENIZER.encode(text).ids
    deltas = []
    for position, token in enumerate(tokens):
        reason = finish if position == len(tokens) - 1 else None
        delta = state.apply(TokenOutput("r", index, [token], finish_reason=reason))
        if delta is not None:
            deltas.append(delta)
    return deltas


def test_deltas_add_up_to_the_output() -> None:
    state = make_state()
    deltas = feed(state, " world 😀!", FinishReason.LENGTH)
    (output,) = state.to_request_output().outputs
    assert "".join(delta.text for delta in deltas) == output.text == " world 😀!"
    assert output.token_ids == TOKENIZER.encode(" world 😀!").ids
    assert output.finish_reason == "length"
    assert state.is_finished


def test_the_end_token_is_counted_but_not_shown() -> None:
    state = make_state(skip_special_tokens=False)
    feed(state, "there")
    state.apply(TokenOutput("r", 0, [EOS], finish_reason=FinishReason.STOP))
    (output,) = state.to_request_output().outputs
    assert output.text == "there"
    assert output.token_ids[-1] == EOS


def test_a_stop_token_is_not_shown_and_is_the_reason() -> None:
    state = make_state(stop_token_ids=[5])
    feed(state, "there")
    state.apply(TokenOutput("r", 0, [5], finish_reason=FinishReason.STOP, stop_reason=5))
    (output,) = state.to_request_output().outputs
    assert (output.text, output.stop_reason) == ("there", 5)


def test_what_ends_the_output_is_shown_to_those_who_ask() -> None:
    token = TOKENIZER.encode("o").ids[0]
    state = make_state(stop_token_ids=[token], include_stop_str_in_output=True)
    feed(state, "ther")
    state.apply(TokenOutput("r", 0, [token], finish_reason=FinishReason.STOP, stop_reason=token))
    assert state.to_request_output().outputs[0].text == "thero"
    state = make_state(stop=["\nQ:"], include_stop_str_in_output=True)
    deltas = feed(state, "hello\nQ: more")
    assert "".join(delta.text for delta in deltas) == "hello\nQ:"
    # The model's own end is a special token, which has no text.
    state = make_state(include_stop_str_in_output=True)
    feed(state, "there")
    state.apply(TokenOutput("r", 0, [EOS], finish_reason=FinishReason.STOP))
    assert state.to_request_output().outputs[0].text == "there"


def test_a_stop_string_over_several_tokens_ends_the_output_before_it() -> None:
    state = make_state(stop=["\nQ:"])
    deltas = feed(state, "hello\nQ: more")
    assert deltas[-1].finish_reason is FinishReason.STOP
    assert deltas[-1].stop_reason == "\nQ:"
    assert deltas[-1].abort_needed
    assert "".join(delta.text for delta in deltas) == "hello"
    (output,) = state.to_request_output().outputs
    assert (output.text, output.finish_reason) == ("hello", "stop")
    assert TOKENIZER.decode(output.token_ids) == "hello\nQ:"


def test_a_stop_string_with_the_last_token_needs_no_abort() -> None:
    state = make_state(stop="Q")
    deltas = feed(state, "hello Q", FinishReason.LENGTH)
    assert deltas[-1].finish_reason is FinishReason.STOP
    assert not deltas[-1].abort_needed
    assert state.to_request_output().outputs[0].text == "hello "


def test_tokens_of_one_output_after_the_stop_string_are_dropped() -> None:
    state = make_state(stop="Q")
    tokens = TOKENIZER.encode("aQbc").ids
    delta = state.apply(TokenOutput("r", 0, tokens))
    assert delta is not None
    assert (delta.text, delta.token_ids) == ("a", tokens[:2])


def test_a_held_back_tail_is_shown_when_the_output_ends() -> None:
    state = make_state(stop="!!")
    deltas = feed(state, "hello!", FinishReason.LENGTH)
    assert deltas[-1].text.endswith("!")
    assert state.to_request_output().outputs[0].text == "hello!"


def test_completions_are_kept_apart() -> None:
    state = make_state(n=2, stop="Q")
    feed(state, "ab Q", index=1)
    was_finished = state.is_finished
    feed(state, "cd", FinishReason.LENGTH, index=0)
    assert (was_finished, state.is_finished) == (False, True)
    assert [output.text for output in state.to_request_output().outputs] == ["cd", "ab "]


def test_logprobs_are_decoded_with_the_sampled_token_first() -> None:
    state = make_state(logprobs=2)
    sampled, best = TOKENIZER.encode("a").ids[0], TOKENIZER.encode("b").ids[0]
    position = TokenLogprobs([sampled, best, sampled], [-2.0, -0.5, -2.0], [2, 1, 2])
    delta = state.apply(TokenOutput("r", 0, [sampled], logprobs=[position]))
    assert delta is not None
    assert delta.logprobs is not None
    assert [(k, v.logprob, v.rank, v.decoded_token) for k, v in delta.logprobs[0].items()] == [
        (sampled, -2.0, 2, "a"),
        (best, -0.5, 1, "b"),
    ]
    (output,) = state.to_request_output().outputs
    assert output.cumulative_logprob == -2.0
    assert output.logprobs == delta.logprobs


def test_an_error_ends_the_completion_with_its_message() -> None:
    state = make_state()
    error = TokenOutput("r", 0, [], finish_reason=FinishReason.ERROR, error="boom")
    delta = state.apply(error)
    assert delta is not None
    assert (delta.finish_reason, delta.error) == (FinishReason.ERROR, "boom")
    assert state.is_finished


def with_special_tags() -> Tokenizer:
    tokenizer = byte_level_tokenizer()
    tokenizer.add_special_tokens(["<tool_call>", "</tool_call>", "<|end|>"])
    return tokenizer


def test_special_tokens_are_kept_for_those_who_look_for_markup() -> None:
    tokenizer = with_special_tags()
    ids = tokenizer.encode('<tool_call>{"name": 1}</tool_call> x').ids
    for skip, shown in ((True, '{"name": 1} x'), (False, '<tool_call>{"name": 1}</tool_call> x')):
        state = RequestState("r", None, [0], SamplingParams(skip_special_tokens=skip), tokenizer)
        deltas = [state.apply(TokenOutput("r", 0, [number])) for number in ids]
        assert "".join(delta.text for delta in deltas if delta) == shown
        assert state.to_request_output().outputs[0].text == shown
        assert state.marked_text(0).text == '<tool_call>{"name": 1}</tool_call> x'
        assert state.marked_text(0).shown == shown


def test_a_long_answer_of_special_tokens_is_joined_in_linear_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Counted, not timed: the characters that additions copy while parts become one text."""
    copied = 0
    add = MarkedText.__add__

    def counting(self: MarkedText, other: MarkedText) -> MarkedText:
        nonlocal copied
        copied += len(self) + len(other)
        return add(self, other)

    monkeypatch.setattr(MarkedText, "__add__", counting)
    whole = joined([MarkedText("<s>", ((0, 3),)), MarkedText("ab")] * 500)
    assert (whole.shown, len(whole.hidden), whole.hidden[-1]) == ("ab" * 500, 500, (2495, 2498))
    assert copied <= len(whole)


def test_the_text_is_joined_once_for_all_who_read_it() -> None:
    state = make_state()
    feed(state, "hello there")
    assert state.to_request_output().outputs[0].text == "hello there"
    assert state.marked_text(0) is state.marked_text(0)
    feed(state, " you", FinishReason.LENGTH)
    assert state.marked_text(0).text == state.to_request_output().outputs[0].text
    assert state.marked_text(0).text == "hello there you"


def test_a_stop_string_that_is_a_special_token_ends_the_output() -> None:
    tokenizer = with_special_tags()
    ids = tokenizer.encode("hello<|end|> there").ids
    for keeps in (False, True):
        params = SamplingParams(stop="<|end|>", include_stop_str_in_output=keeps)
        state = RequestState("r", None, [0], params, tokenizer)
        state.apply(TokenOutput("r", 0, ids))
        (output,) = state.to_request_output().outputs
        assert output.text == ("hello<|end|>" if keeps else "hello")
        assert (output.finish_reason, output.stop_reason) == ("stop", "<|end|>")


@pytest.mark.parametrize(
    ("begun", "following", "count"),
    [
        (b"\xf0\x9f", b"\x98\x80", 0),
        (b"\xf0\x9f", b" w", 1),
        (b"\xf0\x9f", b"", 0),
        (b"\xf0\x9f\xf0", b"\x9f", 1),
        (b"\xf0\xf0", b"a", 2),
        (b"\xff", b"\xc3", 1),
        (b"\xc3", b"\xe4\xbd", 1),
    ],
)
def test_bytes_that_nothing_goes_on_with_are_a_character(
    begun: bytes, following: bytes, count: int
) -> None:
    assert num_characters_before(begun, following) == count


def test_a_token_begins_behind_bytes_that_are_no_character() -> None:
    ids = [token_id(TOKENIZER, "ð"), token_id(TOKENIZER, "Ł"), *TOKENIZER.encode(" world").ids]
    state = make_state(logprobs=0)
    for number in ids:
        position = TokenLogprobs([number], [-1.0], [1])
        state.apply(TokenOutput("r", 0, [number], logprobs=[position]))
    (output,) = state.to_request_output().outputs
    assert output.text == "\ufffd world"
    assert output.text_offsets is not None
    assert output.text_offsets[:3] == [0, 0, 1]


def test_offsets_index_the_text_whole_and_streamed() -> None:
    """The tokens of one character stand where it stands; special tokens and the end have no width."""
    text = "aé 😊!"
    ids = [*TOKENIZER.encode(text).ids, EOS]
    whole, streamed = make_state(logprobs=0), make_state(logprobs=0)
    logprobs = [TokenLogprobs([number], [-1.0], [1]) for number in ids]
    whole.apply(TokenOutput("r", 0, ids, finish_reason=FinishReason.STOP, logprobs=logprobs))
    offsets: list[int] = []
    for number, one in zip(ids, logprobs, strict=True):
        reason = FinishReason.STOP if number == EOS else None
        delta = streamed.apply(TokenOutput("r", 0, [number], finish_reason=reason, logprobs=[one]))
        assert delta is not None
        offsets += delta.text_offsets or []
    (output,) = whole.to_request_output().outputs
    assert output.text == text
    assert output.text_offsets == offsets
    assert streamed.to_request_output().outputs[0].text_offsets == offsets
    vocabulary = Vocabulary(TOKENIZER)
    begun_bytes, place = b"", 0
    for number, offset in zip(ids[:-1], offsets, strict=False):
        begun = begun_bytes.decode(errors="ignore")
        assert offset == len(begun)
        begun_bytes += vocabulary.bytes_of(number)
        place = offset
    assert begun_bytes.decode() == text
    assert place < offsets[-1] == len(text)
