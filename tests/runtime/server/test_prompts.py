"""Messages and tools as chat templates read them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from octavo.errors import ContextLengthExceededError
from octavo.model_source import resolve
from octavo.server.openai.prompts import PromptBuilder
from octavo.server.openai.protocol import ChatCompletionRequest, CompletionRequest
from octavo.tokenizer import Tokenizer, load_tokenizer


def chat(**fields: Any) -> ChatCompletionRequest:
    return ChatCompletionRequest.parse({"model": "m", "messages": [], **fields})


class Counting:
    """A tokenizer that makes a token of so many characters, and notes what it was given."""

    def __init__(self, chars_per_token: int) -> None:
        self.chars_per_token = chars_per_token
        self.special_tokens: dict[str, str] = {}
        self.chat_templates = {"default": ""}
        self.lengths: list[int] = []
        self.added_special: list[bool] = []

    def render_chat(self, messages: list[dict[str, str]], **_: object) -> str:
        return messages[0]["content"]

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        self.lengths.append(len(text))
        self.added_special.append(add_special_tokens)
        return [1] * (len(text) // self.chars_per_token)


def prompt_of(tokenizer: Counting, text: str, *, is_chat: bool, **fields: Any) -> list[int]:
    builder = PromptBuilder(tokenizer, max_model_len=100, vocab_size=10, max_prompts=1)  # type: ignore[arg-type]

    async def build() -> list[int]:
        if is_chat:
            message = {"role": "user", "content": text}
            return (await builder.chat(chat(messages=[message], **fields), None)).token_ids
        request = CompletionRequest.parse({"model": "m", "prompt": text, **fields})
        return (await builder.completions(request))[0].token_ids

    return asyncio.run(build())


@pytest.mark.parametrize(("is_chat", "parameter"), [(True, "messages"), (False, "prompt")])
def test_of_a_text_that_is_far_too_long_only_the_beginning_is_tokenised(
    is_chat: bool, parameter: str
) -> None:
    tokenizer = Counting(chars_per_token=4)
    with pytest.raises(ContextLengthExceededError, match="resulted in more than 200 tokens") as why:
        prompt_of(tokenizer, "a" * 1_000_000, is_chat=is_chat)
    assert why.value.parameter == parameter
    assert tokenizer.lengths == [1600]


def test_a_text_of_long_tokens_may_be_longer() -> None:
    tokenizer = Counting(chars_per_token=50)
    assert prompt_of(tokenizer, "a" * 5000, is_chat=False) == [1] * 100
    assert tokenizer.lengths[-1] == 5000


@pytest.mark.parametrize("is_chat", [True, False])
def test_special_tokens_are_added_where_no_template_wrote_them(is_chat: bool) -> None:
    tokenizer = Counting(chars_per_token=1)
    for fields in ({}, {"add_special_tokens": True}, {"add_special_tokens": False}):
        prompt_of(tokenizer, "a", is_chat=is_chat, **fields)
    assert tokenizer.added_special == [not is_chat, True, False]


class Waiting:
    """A tokenizer that begins no work before the event loop has turned meanwhile."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._is_asked, self._has_turned = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def render_chat(self, *args: Any, **kwargs: Any) -> str:
        self._wait()
        return self._tokenizer.render_chat(*args, **kwargs)

    def encode(self, *args: Any, **kwargs: Any) -> list[int]:
        self._wait()
        return self._tokenizer.encode(*args, **kwargs)

    def _wait(self) -> None:
        self._is_asked.set()
        assert self._has_turned.wait(60), "the event loop stood still"
        self._is_asked.clear()
        self._has_turned.clear()

    async def turn(self) -> None:
        """The event loop's part, until it is cancelled."""
        while True:
            if self._is_asked.is_set():
                self._has_turned.set()
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("kind", ["chat", "completions", "tools"])
def test_a_long_prompt_does_not_hold_up_the_others(kind: str) -> None:
    """While it is tokenised in a thread, the event loop keeps turning."""
    tokenizer: Any = Waiting(load_tokenizer(resolve("builtin://demo")))
    builder = PromptBuilder(tokenizer, max_model_len=10**9, vocab_size=10**6, max_prompts=4)
    text = "some words and numbers 12345 " * 400

    async def build() -> None:
        turning = asyncio.create_task(tokenizer.turn())
        if kind == "tools":
            tool = {"type": "function", "function": {"name": "f", "description": text}}
            message = {"role": "user", "content": "a"}
            await builder.chat(chat(messages=[message]), [tool])
        elif kind == "chat":
            await builder.chat(chat(messages=[{"role": "user", "content": text}]), None)
        else:
            await builder.completions(CompletionRequest.parse({"model": "m", "prompt": text}))
        turning.cancel()

    asyncio.run(build())
