"""Samples of the training: conversations and plain texts, with what of them is to be learnt."""

from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in OpenAI's form that end with the assistant's; `tools` are those on offer.

    The assistant's words are learnt: of the last message alone if `only_last`, and never those in
    `given`, ranges [first, end) of the last message's characters, which a grammar writes.
    """

    messages: list[Message]
    tools: list[dict[str, Any]] = field(default_factory=list)
    given: tuple[tuple[int, int], ...] = ()
    only_last: bool = False


@dataclass(frozen=True, slots=True)
class PlainText:
    """Text outside any chat, as /v1/completions sends it: `prompt` is given, `rest` is learnt."""

    prompt: str
    rest: str
