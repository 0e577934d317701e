"""Markup that is made of special tokens: read before they are left out of the text, wherever it is cut.

Tags of tool calls and stop strings; there is no other markup that an answer is read for.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest
from tokenizers import AddedToken, Tokenizer, pre_tokenizers

from octavo import LLM, SamplingParams
from octavo.engine.messages import TokenOutput
from octavo.engine.requests.output_processor import Delta, RequestState
from octavo.outputs import FinishReason, RequestOutput
from octavo.server.openai.answers import Usage
from octavo.server.openai.chat import ChatAnswer
from octavo.server.openai.parsing.answer import Markup
from octavo.server.openai.parsing.formats import CALL_FORMATS
from octavo.server.openai.protocol import ChatCompletionRequest
from tests.support.runtime.tokenizers_for_tests import byte_level_tokenizer, metaspace_tokenizer

OPEN, CLOSE, END = "<tool_call>", "</tool_call>", "<|im_end|>"
WRITTEN = (
    'Hm. <tool_call>{"name": "f", "arguments": {"a": "<|im_start|>"}}</tool_call>\n'
    '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call><|im_end|>\nmore'
)
MARKUP = Markup("hermes", CALL_FORMATS["hermes"])
REQUEST = ChatCompletionRequest.parse(
    {"model": "m", "messages": [], "tools": [{"type": "function", "function": {"name": "f"}}]}
)
CALLS = [("f", {"a": "<|im_start|>"}), ("g", {})]


class Replayed:
    """A generation, as an answer sees it, of tokens that came in these outputs."""

    def __init__(
        self, tokenizer: Tokenizer, sampling: SamplingParams, outputs: list[list[int]]
    ) -> None:
        self._state = RequestState("r", None, [0], sampling, tokenizer)
        self._outputs = outputs
        self.usage = Usage.of(1, 1, 0)

    async def deltas(self) -> AsyncIterator[list[tuple[int, Delta]]]:
        for number, token_ids in enumerate(self._outputs, 1):
            reason = FinishReason.LENGTH if number == len(self._outputs) else None
            delta = self._state.apply(TokenOutput("r", 0, token_ids, finish_reason=reason))
            if delta is not None:
                yield [(0, delta)]

    @property
    def outputs(self) -> list[RequestOutput]:
        return [self._state.to_request_output()]

    def marked_text(self, position: int, index: int) -> Any:
        return self._state.marked_text(index)


def whole(answer: ChatAnswer, generation: Any) -> tuple[str, list[tuple[str, Any]], str]:
    async def read() -> dict[str, Any]:
        async for _ in generation.deltas():
            pass
        (choice,) = json.loads(answer.whole(generation))["choices"]
        return dict(choice)

    choice = asyncio.run(read())
    message = choice["message"]
    return (
        message["content"] or "",
        calls_of(message.get("tool_calls", [])),
        choice["finish_reason"],
    )


def streamed(answer: ChatAnswer, generation: Any) -> tuple[str, list[tuple[str, Any]], str]:
    async def read() -> list[dict[str, Any]]:
        events = b"".join([event async for event in answer.events(generation)]).split(b"\n\n")
        found = [json.loads(event.removeprefix(b"data: ")) for event in events if event]
        return [choice for event in found for choice in event["choices"]]

    choices = asyncio.run(read())
    deltas = [choice["delta"] for choice in choices]
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    whole: list[dict[str, Any]] = []
    for call in calls:
        if "id" in call:
            assert call["index"] == len(whole)
            whole.append(call)
        else:
            assert call["index"] == len(whole) - 1
            whole[-1]["function"]["arguments"] += call["function"]["arguments"]
    content = "".join(delta.get("content") or "" for delta in deltas)
    return content, calls_of(whole), choices[-1]["finish_reason"]


def calls_of(calls: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    functions = [call["function"] for call in calls]
    return [(function["name"], json.loads(function["arguments"])) for function in functions]


def metaspace_tokenizer_without_spaces_of_its_own() -> Tokenizer:
    tokenizer = metaspace_tokenizer()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    return tokenizer


@pytest.mark.parametrize(
    "make_tokenizer", [byte_level_tokenizer, metaspace_tokenizer_without_spaces_of_its_own]
)
@pytest.mark.parametrize(
    ("sampling", "is_stopped", "content", "content_of_plain_tags"),
    [
        (SamplingParams(), False, "Hm. more", f"Hm. {END}\nmore"),
        (SamplingParams(stop=END), True, "Hm. ", "Hm. "),
        (SamplingParams(stop=["x", f"{END}\n"]), True, "Hm. ", "Hm. "),
        (SamplingParams(stop=f"{CLOSE}{END}"), True, "Hm. ", "Hm. "),
        (SamplingParams(stop=END, skip_special_tokens=False), True, "Hm. ", "Hm. "),
        (
            SamplingParams(stop=END, include_stop_str_in_output=True),
            True,
            f"Hm. {END}",
            f"Hm. {END}",
        ),
        (
            SamplingParams(stop="\nm", include_stop_str_in_output=True),
            True,
            "Hm. m",
            f"Hm. {END}\nm",
        ),
    ],
)
def test_calls_and_stops_are_found_at_every_cut(
    make_tokenizer: Callable[[], Tokenizer],
    sampling: SamplingParams,
    is_stopped: bool,
    content: str,
    content_of_plain_tags: str,
) -> None:
    for is_special, expected in ((True, content), (False, content_of_plain_tags)):
        tokenizer = make_tokenizer()
        tokenizer.add_tokens([AddedToken(tag, special=is_special) for tag in (OPEN, CLOSE, END)])
        ids = tokenizer.encode(WRITTEN).ids
        cuts = [[0, cut, len(ids)] for cut in range(1, len(ids))]
        for places in ([0, len(ids)], range(len(ids) + 1), *cuts):
            outputs = [ids[begin:end] for begin, end in itertools.pairwise(places)]
            for read in (whole, streamed):
                answer = ChatAnswer(
                    REQUEST, lambda: MARKUP.parser("", {"f": None}), "x", "fp_0", []
                )
                found = read(answer, Replayed(tokenizer, sampling, outputs))
                assert found == (expected, CALLS, "tool_calls" if is_stopped else "length")


QUESTION: Any = [{"role": "user", "content": "What is Octavo?"}]


@pytest.mark.parametrize("keeps_stop", [False, True])
def test_a_stop_string_that_is_a_special_token_ends_an_answer(
    client: openai.OpenAI, keeps_stop: bool
) -> None:
    """The model's own end, which it is told to go on after."""

    def ask(stop: list[str], *, stream: bool = False) -> Any:
        extra = {"ignore_eos": True, "include_stop_str_in_output": keeps_stop}
        return client.chat.completions.create(
            model="demo",
            messages=QUESTION,
            temperature=0,
            max_tokens=100,
            stop=stop,
            stream=stream,
            extra_body=extra,
        )

    plain = client.chat.completions.create(
        model="demo", messages=QUESTION, temperature=0, max_tokens=100
    )
    assert plain.choices[0].finish_reason == "stop"
    expected = (plain.choices[0].message.content or "") + "<|end|>" * keeps_stop
    assert ask([]).choices[0].finish_reason == "length"
    answer = ask(["<|end|>"])
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (
        expected,
        "stop",
    )
    assert answer.usage.completion_tokens == plain.usage.completion_tokens
    chunks = [chunk.choices[0] for chunk in ask(["<|end|>"], stream=True)]
    assert "".join(chunk.delta.content or "" for chunk in chunks) == expected
    assert chunks[-1].finish_reason == "stop"


def test_a_stop_string_that_is_a_special_token_ends_a_completion_of_the_library() -> None:
    greedy = functools.partial(SamplingParams, temperature=0.0, max_tokens=100)
    stopped = functools.partial(greedy, stop=["<|end|>"], ignore_eos=True)
    params = [
        greedy(),
        stopped(),
        stopped(skip_special_tokens=False),
        stopped(include_stop_str_in_output=True),
    ]
    with LLM("builtin://demo", kv_cache_memory_bytes=32 << 20) as llm:
        plain, *others = (llm.chat(QUESTION, each)[0].outputs[0] for each in params)
    assert (plain.finish_reason, plain.stop_reason) == ("stop", None)
    for output, end in zip(others, ("", "", "<|end|>"), strict=True):
        assert (output.finish_reason, output.stop_reason) == ("stop", "<|end|>")
        assert (output.text, output.token_ids) == (plain.text + end, plain.token_ids)
