"""Text completions: the prompt's four forms, many prompts at once, echo, logprobs, streams."""

from __future__ import annotations

from typing import Any

import openai
import pytest


def complete(client: openai.OpenAI, prompt: Any, **options: Any) -> Any:
    options = {"temperature": 0, "max_tokens": 6, **options}
    return client.completions.create(
        model="demo", prompt=prompt, extra_body={"ignore_eos": True}, **options
    )


def test_a_prompt_and_prompts_and_token_ids(client: openai.OpenAI) -> None:
    one = complete(client, "hello")
    assert one.id.startswith("cmpl-")
    assert one.object == "text_completion"
    assert one.choices[0].finish_reason == "length"
    assert one.usage.completion_tokens == 6
    two = complete(client, ["other", "hello"])
    assert [choice.index for choice in two.choices] == [0, 1]
    assert two.choices[1].text == one.choices[0].text
    assert two.usage.completion_tokens == 12
    ids = complete(client, [5, 6, 7])
    both = complete(client, [[9], [5, 6, 7]])
    assert ids.usage.prompt_tokens == 3
    assert both.choices[1].text == ids.choices[0].text


def test_prompts_times_n_are_numbered_as_openai_does(client: openai.OpenAI) -> None:
    answer = complete(client, ["a", "b"], n=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    texts = [choice.text for choice in answer.choices]
    assert texts[0] == texts[1] == complete(client, "a").choices[0].text
    assert texts[2] == texts[3] == complete(client, "b").choices[0].text


def test_a_stream_of_several_prompts(client: openai.OpenAI) -> None:
    whole = complete(client, ["a", "b", "c"])
    chunks = list(
        complete(client, ["a", "b", "c"], stream=True, stream_options={"include_usage": True})
    )
    for choice in whole.choices:
        own = [c.choices[0] for c in chunks[:-1] if c.choices[0].index == choice.index]
        assert "".join(part.text for part in own) == choice.text
        assert own[-1].finish_reason == "length"
    assert chunks[-1].usage == whole.usage


@pytest.mark.parametrize("stream", [False, True])
def test_echo_puts_the_prompt_first(client: openai.OpenAI, stream: bool) -> None:
    plain = complete(client, "hello there").choices[0].text
    answer = complete(client, "hello there", echo=True, stream=stream)
    text = "".join(chunk.choices[0].text for chunk in answer) if stream else answer.choices[0].text
    assert text == "hello there" + plain


def test_log_probabilities_are_told_with_their_tokens_and_places(client: openai.OpenAI) -> None:
    choice = complete(client, "hello", logprobs=2).choices[0]
    assert "".join(choice.logprobs.tokens) == choice.text
    assert len(choice.logprobs.token_logprobs) == 6
    for token, logprob, top, offset in zip(
        choice.logprobs.tokens,
        choice.logprobs.token_logprobs,
        choice.logprobs.top_logprobs,
        choice.logprobs.text_offset,
        strict=True,
    ):
        assert top[token] == logprob == max(top.values())
        assert choice.text[offset:].startswith(token)
    chunks = list(complete(client, "hello", logprobs=2, stream=True))
    told = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices[0].logprobs]
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        streamed = [item for logprobs in told for item in getattr(logprobs, name)]
        assert streamed == getattr(choice.logprobs, name)


def test_of_a_drawn_token_the_log_probability_is_always_told(client: openai.OpenAI) -> None:
    answer = complete(client, "The", logprobs=1, temperature=2, seed=1, max_tokens=40)
    logprobs = answer.choices[0].logprobs
    sizes = {len(top) for top in logprobs.top_logprobs}
    assert sizes == {1, 2}
    for token, value, top in zip(
        logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True
    ):
        assert top[token] == value


def test_sixteen_tokens_unless_asked_otherwise(client: openai.OpenAI) -> None:
    assert complete(client, "hello", max_tokens=openai.omit).usage.completion_tokens == 16


def test_a_seed_repeats(client: openai.OpenAI) -> None:
    options = {"temperature": 1.3, "max_tokens": 24}
    first = complete(client, "hello", seed=11, **options).choices[0].text
    assert complete(client, "hello", seed=11, **options).choices[0].text == first
    assert complete(client, "hello", seed=12, **options).choices[0].text != first


def test_the_last_token_of_the_context_can_be_used(client: openai.OpenAI) -> None:
    answer = complete(client, [5] * 2040, max_tokens=8)
    assert answer.usage.total_tokens == 2048
