"""Tokenisation routes. `POST /tokenize` and `POST /detokenize`: what a prompt costs, before it is sent.

Routes and answers are vLLM's. A request for tokens is a chat or completion request; of its fields those
count that make the prompt, so that a client may send the very body that it is about to send.
"""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict

from octavo.server.openai.api_errors import invalid_value, quoted
from octavo.server.openai.functions import told_as_functions
from octavo.server.openai.prompts import PromptBuilder
from octavo.server.openai.protocol import ChatCompletionRequest, CompletionRequest
from octavo.server.openai.tool_choice import read_tool_use

_TELLS_TEXTS = "return_token_strs"


class DetokenizeRequest(BaseModel):
    """`tokens` is checked by hand, as the prompts of completions."""

    model_config = ConfigDict(strict=True, extra="forbid")

    model: str
    tokens: Any


class Tokens(msgspec.Struct, frozen=True):
    """`token_strs`: as the vocabulary has them."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | msgspec.UnsetType = msgspec.UNSET


class Text(msgspec.Struct, frozen=True):
    prompt: str


def pop_tells_texts(document: dict[str, Any]) -> bool:
    """vLLM's `return_token_strs`, which is no field of what is tokenised. Raises `ApiError`."""
    found = document.pop(_TELLS_TEXTS, None)
    if not (found is None or isinstance(found, bool)):
        raise invalid_value(
            _TELLS_TEXTS,
            f"{_TELLS_TEXTS} is {quoted(found)}; it must be true or false.",
            code="invalid_type",
        )
    return found is True


async def tokenized(
    request: ChatCompletionRequest | CompletionRequest,
    prompts: PromptBuilder,
    *,
    tells_texts: bool = False,
) -> Tokens:
    """The prompt of `request` as token ids.

    Args:
        tells_texts: With the tokens as texts.

    Raises:
        ApiError: It holds several prompts.
        InvalidParameterError: As when the request is sent.
    """
    if isinstance(request, ChatCompletionRequest):
        with told_as_functions(request.functions, len(request.messages)):
            told, instead = read_tool_use(request).told, "give prompt in place of messages"
            prompt = await prompts.chat(request, told, instead=instead)
    else:
        given = await prompts.completions(request)
        if len(given) != 1:
            raise invalid_value("prompt", f"prompt holds {len(given)} prompts; give one.")
        (prompt,) = given
    ids = prompt.token_ids
    texts = prompts.tokens_of(ids) if tells_texts else msgspec.UNSET
    return Tokens(len(ids), prompts.max_model_len, ids, texts)


async def detokenized(request: DetokenizeRequest, prompts: PromptBuilder) -> Text:
    """The text of token ids, special tokens included. Raises `ApiError` where one is none of the model's."""
    return Text(await prompts.text_of(request.tokens, "tokens"))
