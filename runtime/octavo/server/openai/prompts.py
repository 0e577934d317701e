"""Prompts. From a request to prompt token ids: messages for the chat template, the prompt's four forms,
limits.

Long texts are tokenised in a thread, so that one of them does not hold up everybody's stream.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from octavo.errors import (
    ContextLengthExceededError,
    InvalidParameterError,
    UnsupportedParameterError,
)
from octavo.server.openai.api_errors import invalid_value, quoted, unsupported
from octavo.server.openai.fill_in_middle import MiddleTokens, find_middle_tokens, halves
from octavo.server.openai.protocol import ChatCompletionRequest, CompletionRequest
from octavo.server.openai.template_variables import as_sent, template_variables
from octavo.tokenizer import Side, Tokenizer, Truncation

T = TypeVar("T")

_THREAD_FROM_CHARS = 4096
# What rendering a member of a message costs beside its text.
_MEMBER_CHARS = 16
# Of ordinary text a token holds about four.
_CHARS_PER_TOKEN = 8
# Of no text that is meant: what is longer than so is not looked at.
_MOST_CHARS_PER_TOKEN = 64
# OpenAI's own limit for one request.
_MAX_TEXTS = 2048


@dataclass(frozen=True, slots=True)
class Prompt:
    """`text` is None for a prompt that came as token ids. `is_filled_in`: the answer stands in the middle
    of its text."""

    token_ids: list[int]
    text: str | None = None
    is_filled_in: bool = False


class PromptBuilder:
    """Makes the prompts of one server.

    Args:
        max_model_len: Tokens of the longest sequence.
        vocab_size: Token ids that the model knows.
        max_prompts: Of one completions request.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, max_model_len: int, vocab_size: int, max_prompts: int
    ) -> None:
        self._tokenizer = tokenizer
        self.max_model_len = max_model_len
        self._vocab_size = vocab_size
        self._max_prompts = max_prompts
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="octavo-tokenize")

    async def chat(
        self,
        request: ChatCompletionRequest,
        tools: Sequence[Mapping[str, Any]] | None,
        parameter: str = "messages",
        *,
        instead: str = "use /v1/completions",
    ) -> Prompt:
        """Raises `ApiError` or `InvalidParameterError` when the messages cannot be rendered.

        Args:
            tools: Those that the template is given.
            parameter: What the client wrote the conversation into.
            instead: What works where the model has no chat template, as advice.
        """
        if not self.has_chat:
            raise InvalidParameterError(
                "messages",
                f"The model has no chat template: {instead}, or start the server with --chat-template FILE.",
            )
        messages = [message.as_sent for message in request.messages]
        variables = template_variables(request)
        render = functools.partial(
            self._tokenizer.render_chat,
            messages,
            tools=tools,
            add_generation_prompt=request.add_generation_prompt,
            continue_final_message=bool(request.continue_final_message),
            template_kwargs=variables,
        )
        size = _num_chars([messages, tools, variables])
        try:
            text = await self._run(render, size)
        except UnsupportedParameterError as error:
            raise as_sent(error, request) from None
        # The template writes the model's own.
        has_special = bool(request.add_special_tokens)
        ids = await self._encode(text, parameter, add_special_tokens=has_special)
        kept = self._truncated(Prompt(ids), request, request.requested_max_tokens)
        return Prompt(kept.token_ids, text)

    @property
    def has_chat(self) -> bool:
        """The model has a chat template."""
        return self._tokenizer.chat_templates is not None

    async def completions(self, request: CompletionRequest) -> list[Prompt]:
        """The prompts in order, each as text or token ids.

        Raises: `ApiError`, as `chat`.
        """
        has_special = request.add_special_tokens is not False
        found = []
        for given in self._split(request.prompt, "prompt", self._max_prompts):
            one, suffix = halves(given, request.suffix or "", self._fill_mark)
            if suffix:
                parameter = "suffix" if request.suffix else "prompt"
                prompt = await self._around_middle(one, suffix, parameter, has_special=has_special)
            elif isinstance(one, str):
                prompt = Prompt(
                    await self._encode(one, "prompt", add_special_tokens=has_special), one
                )
            else:
                prompt = Prompt(one)
            found.append(self._truncated(prompt, request, request.max_tokens))
        return found

    @functools.cached_property
    def _middle_tokens(self) -> MiddleTokens | None:
        return find_middle_tokens(self._tokenizer.backend.token_to_id)

    @property
    def _fill_mark(self) -> str | None:
        return self._tokenizer.special_tokens.get("fill_token")

    @property
    def middle_ends(self) -> tuple[int, ...]:
        """What ends a text that is filled in, beside the model's own ends."""
        tokens = self._middle_tokens
        return () if tokens is None else tokens.ends

    async def _around_middle(
        self, prefix: str | list[int], suffix: str, parameter: str, *, has_special: bool
    ) -> Prompt:
        """Raises `ApiError` for a model that was not trained to fill in."""
        tokens = self._middle_tokens
        if tokens is None:
            raise unsupported(
                parameter,
                "the model's vocabulary has none of the tokens by which models fill in the middle. Leave out "
                "what stands behind it.",
            )
        encode = functools.partial(self._tokenizer.encode, add_special_tokens=False)
        if isinstance(prefix, str):
            whole = tokens.whole_prefix(prefix, encode)
            prefix = await self._encode(whole, "prompt", add_special_tokens=False)
        most = _CHARS_PER_TOKEN * 2 * self.max_model_len
        if len(suffix) > most:
            raise self._too_long(parameter, f"more than {self.max_model_len}")
        behind = await self._run(
            functools.partial(tokens.encode_suffix, suffix, encode), len(suffix)
        )
        start = self._tokenizer.encode("") if has_special else []
        ids = tokens.prompt(start, prefix, self._known_ids(behind, parameter))
        return Prompt(ids, is_filled_in=True)

    def _truncated(
        self,
        prompt: Prompt,
        request: ChatCompletionRequest | CompletionRequest,
        max_tokens: int | None,
    ) -> Prompt:
        most = request.truncate_prompt_tokens
        if most is None:
            return prompt
        if most < 0:
            most = max(1, self.max_model_len - (1 if max_tokens is None else max_tokens))
        if len(prompt.token_ids) <= most:
            return prompt
        ids = Truncation(most, Side.LEFT).ids(prompt.token_ids)
        return Prompt(ids, is_filled_in=prompt.is_filled_in)

    async def pooled(
        self,
        texts: object,
        parameter: str,
        *,
        add_special_tokens: bool,
        prepared: Callable[[str], str],
        truncation: Truncation | None = None,
    ) -> list[list[int]]:
        """Token ids of texts that are embedded, in any of the prompt's four forms.

        Args:
            prepared: What the tokenizer gets of a text.
            truncation: None cuts nothing off.

        Raises:
            ContextLengthExceededError: One is too long.
            ApiError: One is empty, or `texts` is in no such form.
        """
        found = []
        for one in self._split(texts, parameter, _MAX_TEXTS):
            if not isinstance(one, str):
                ids = one if truncation is None else truncation.ids(one)
            elif truncation is None:
                text = prepared(one)
                ids = await self._encode(text, parameter, add_special_tokens=add_special_tokens)
            else:
                text, backend = prepared(one), self._tokenizer.backend
                encode = functools.partial(truncation.encode, backend, text)
                shortened = functools.partial(encode, add_special_tokens=add_special_tokens)
                ids = self._known_ids(await self._run(shortened, len(text)), parameter)
            found.append(self._fitting(ids, parameter))
        return found

    async def pairs(
        self,
        pairs: Sequence[tuple[str, str]],
        parameter: str,
        truncation: Truncation | None = None,
    ) -> list[tuple[list[int], int | None]]:
        """Token ids of pairs of texts, and where the second segment begins. Raises as `pooled`."""
        found = []
        for first, second in pairs:
            size = len(first) + len(second)
            if truncation is None and size > _MOST_CHARS_PER_TOKEN * self.max_model_len:
                raise self._too_long(parameter, f"more than {self.max_model_len}")
            encode = functools.partial(self._tokenizer.encode_pair, first, second, truncation)
            ids, second_segment = await self._run(encode, size)
            known = self._fitting(self._known_ids(ids, parameter), parameter)
            found.append((known, second_segment))
        return found

    def _fitting(self, ids: list[int], parameter: str) -> list[int]:
        if not ids:
            raise invalid_value(
                parameter, f"{parameter} holds an empty text; give at least a token."
            )
        if len(ids) > self.max_model_len:
            raise ContextLengthExceededError(
                parameter,
                f"{self._limit} However, {parameter} holds a text of {len(ids)} tokens. Shorten it.",
            )
        return ids

    async def _encode(self, text: str, parameter: str, *, add_special_tokens: bool) -> list[int]:
        """Of a text that is far too long only the beginning is looked at: tokenising takes some 200 bytes
        of memory for each of its characters, and seconds.

        Raises:
            ContextLengthExceededError: The beginning alone has twice the tokens that fit.
            ApiError: The text holds a token that the model has no embedding for.
        """
        encode = functools.partial(self._tokenizer.encode, add_special_tokens=add_special_tokens)
        most = 2 * self.max_model_len
        size = _CHARS_PER_TOKEN * most
        while len(text) > size:
            beginning = await self._run(functools.partial(encode, text[:size]), size)
            if len(beginning) > most:
                raise self._too_long(parameter, f"more than {most}")
            size *= 2
        ids = await self._run(functools.partial(encode, text), len(text))
        return self._known_ids(ids, parameter)

    def max_tokens(
        self, prompt: Prompt, requested: int | None, parameter: str, *, default: int | None
    ) -> int:
        """Tokens that may be made after `prompt`.

        Args:
            requested: By the client; None takes what fits of `default`, which refuses no prompt, and 0 needs
                no room behind it.
            parameter: What the client wrote the prompt into.
            default: None is all that fits.

        Raises:
            ContextLengthExceededError: The prompt, or the prompt and `requested`, does not fit.
        """
        length = len(prompt.token_ids)
        if length == 0:
            raise invalid_value(
                parameter, f"{parameter} is empty; it must hold at least one token."
            )
        room = self.max_model_len - length
        if room < (requested != 0):
            raise self._too_long(parameter, str(length), is_answered=requested != 0)
        if requested is None:
            return room if default is None else min(room, default)
        if requested > room:
            raise ContextLengthExceededError(
                parameter,
                f"{self._limit} However, you requested {length + requested} tokens ({length} in the "
                f"{parameter}, {requested} in the completion). Shorten the {parameter} or ask for at "
                f"most {room} tokens.",
            )
        return requested

    @property
    def _limit(self) -> str:
        return f"This model's maximum context length is {self.max_model_len} tokens."

    def _too_long(
        self, parameter: str, length: str, *, is_answered: bool = True
    ) -> ContextLengthExceededError:
        instead = "so that at least one token of room is left" if is_answered else "so that it fits"
        return ContextLengthExceededError(
            parameter,
            f"{self._limit} However, your {parameter} resulted in {length} tokens. Shorten it {instead}.",
        )

    def decode(self, token_ids: Sequence[int]) -> str:
        return self._tokenizer.decode(token_ids, skip_special_tokens=False)

    def tokens_of(self, token_ids: Sequence[int]) -> list[str]:
        """As the vocabulary has them; empty where it has none."""
        return [self._tokenizer.backend.id_to_token(one) or "" for one in token_ids]

    async def text_of(self, token_ids: object, parameter: str) -> str:
        """Of ids that a client sent. Raises `ApiError` where it is not a list of the model's ids."""
        if not isinstance(token_ids, list):
            raise invalid_value(
                parameter,
                f"{parameter} is {quoted(token_ids)}; it must be a list of token ids.",
                code="invalid_type",
            )
        known = self._checked_ids(token_ids, parameter)
        decode = functools.partial(self._tokenizer.decode, known, skip_special_tokens=False)
        return await self._run(decode, len(known))

    async def _run(self, function: Callable[[], T], num_chars: int) -> T:
        if num_chars < _THREAD_FROM_CHARS:
            return function()
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    def _split(self, prompt: object, parameter: str, most: int) -> list[str] | list[list[int]]:
        if isinstance(prompt, str):
            return [prompt]
        if not isinstance(prompt, list) or not prompt:
            raise _bad_prompt(parameter, f"it is {quoted(prompt)}")
        kinds = set(map(type, prompt))
        if kinds == {int}:
            return [self._checked_ids(prompt, parameter)]
        if len(prompt) > most:
            raise invalid_value(
                parameter, f"{parameter} holds {len(prompt)} prompts; give at most {most}."
            )
        if kinds == {str}:
            return prompt
        if kinds == {list}:
            return [self._checked_ids(ids, parameter) for ids in prompt]
        raise _bad_prompt(parameter, "it mixes these forms")

    def _known_ids(self, ids: list[int], parameter: str) -> list[int]:
        """Tokenizers may hold tokens that were added after the model's table was made."""
        if ids and max(ids) >= self._vocab_size:
            wrong = next(token_id for token_id in ids if token_id >= self._vocab_size)
            text = self._tokenizer.backend.id_to_token(wrong)
            raise invalid_value(
                parameter,
                f"{parameter} holds {quoted(text)}, which is the token {wrong}; the model's ids lie in "
                f"[0, {self._vocab_size - 1}]. Leave that text out.",
            )
        return ids

    def _checked_ids(self, ids: list[Any], parameter: str) -> list[int]:
        if set(map(type, ids)) - {int}:
            raise invalid_value(
                parameter,
                f"{parameter} holds a list of token ids with something else in it; give integers alone.",
                code="invalid_type",
            )
        if ids and not (min(ids) >= 0 and max(ids) < self._vocab_size):
            wrong = next(token_id for token_id in ids if not 0 <= token_id < self._vocab_size)
            raise invalid_value(
                parameter,
                f"{parameter} holds the token id {quoted(wrong)}; the model's ids lie in "
                f"[0, {self._vocab_size - 1}].",
            )
        return ids


def _num_chars(value: object) -> int:
    """Of all texts in a JSON value, and something for each of its members."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(_MEMBER_CHARS + _num_chars(item) for item in value.values())
    if isinstance(value, list):
        return sum(_MEMBER_CHARS + _num_chars(item) for item in value)
    return 0


def _bad_prompt(parameter: str, why: str) -> Exception:
    return invalid_value(
        parameter,
        f"{parameter} must be a string, a list of strings, a list of token ids or a list of those; "
        f"{why}.",
        code="invalid_type",
    )
