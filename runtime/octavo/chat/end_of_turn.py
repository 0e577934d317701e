"""End of an assistant's turn: the special token that a chat template writes behind an answer, learnt by
asking it.

Whoever tuned the model on conversations had them written by this template, so the model ends its answers
with that token, be it named elsewhere or not. Only what surely ends the turn is taken: a special token right
behind the answer, and not one that opens the next turn, or that stands between the parts of one: thoughts, an
answer and calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from octavo.chat.forms import PROBE_TOOL
from octavo.chat.template import ChatTemplate
from octavo.errors import InvalidParameterError

_QUESTION, _ANSWER, _NEXT = "octavoquestion", "octavoanswer", "octavonext"
_SYSTEM, _THOUGHT = "octavosystem", "octavothought"
_TOOLS: tuple[list[Mapping[str, Any]] | None, ...] = (None, [PROBE_TOOL])
_CALLED = "octavocalled"  # none of the tools, which a template may show behind it
_CALL = {
    "id": "octavo123",
    "type": "function",
    "function": {"name": _CALLED, "arguments": {"octavokey": "octavovalue"}},
}
_MESSAGES = (
    {"role": "user", "content": _QUESTION},
    {"role": "assistant", "content": _ANSWER},
    {"role": "user", "content": _NEXT},
)


@dataclass(frozen=True, slots=True)
class TokenView:
    """A tokenizer as it is needed here.

    Args:
        encode: Ids of a text, without any that the text does not hold.
        decode: The text of one id; blank for spaces and newlines.
        special: Ids of special tokens.
    """

    encode: Callable[[str], Sequence[int]]
    decode: Callable[[int], str]
    special: frozenset[int]


def find_end_of_turn(template: ChatTemplate, tokens: TokenView) -> int | None:
    """None where the template writes no special token that is sure to end the turn."""
    found = _behind_answer(template, tokens)
    return None if found in _within_turn(template, tokens) else found


def _behind_answer(template: ChatTemplate, tokens: TokenView) -> int | None:
    answered = _rendered(template, 2)
    after = tokens.encode(_behind(answered, _ANSWER))
    if answered and answered == _rendered(template, 2, add_generation_prompt=True):
        # It may ask for another answer whether it is told to or not.
        after = _without_common_end(after, tokens.encode(_between(answered, _QUESTION, _ANSWER)))
    found = _first_special(after, tokens)
    if found is not None:
        return found
    # Some end a turn only when another follows, and others not at all.
    followed = _rendered(template, 3)
    opening = tokens.encode(followed.partition(_QUESTION)[0])
    between = tokens.encode(_between(followed, _ANSWER, _NEXT))
    found = _first_special(_without_common_end(between, opening), tokens)
    return _closing(template, tokens) if found is None else found


def _closing(template: ChatTemplate, tokens: TokenView) -> int | None:
    """What closes every turn, and opens none: some write a system message of their own before the first one,
    so that what closes that stands before a question as it stands behind an answer."""
    text = _rendered(template, 3, before=[{"role": "system", "content": _SYSTEM}])
    found = _first_special(tokens.encode(_between(text, _ANSWER, _NEXT)), tokens)
    if found in tokens.encode(text.partition(_SYSTEM)[0]):
        return None
    turns = (_between(text, _SYSTEM, _QUESTION), _between(text, _QUESTION, _ANSWER))
    return found if all(found in tokens.encode(turn) for turn in turns) else None


def _within_turn(template: ChatTemplate, tokens: TokenView) -> set[int]:
    """What stands between an answer and the thoughts before it, or the calls behind it: some templates close
    each part of a message as they close the last one, and the turn goes on."""
    thought = {**_MESSAGES[1], "reasoning_content": _THOUGHT}
    found = set(tokens.encode(_between(_rendered(template, 2, answer=thought), _THOUGHT, _ANSWER)))
    for tools in _TOOLS:  # some show calls with tools alone
        answered = _rendered(template, 2, tried=(tools,))
        opening = Counter(tokens.encode(_between(answered, _QUESTION, _ANSWER)))
        for content in (_ANSWER, None):  # some show it or calls
            called = {**_MESSAGES[1], "content": content, "tool_calls": [_CALL]}
            text = _between(
                _rendered(template, 2, answer=called, tried=(tools,)), _QUESTION, _CALLED
            )
            found.update(Counter(tokens.encode(text)) - opening)
    return found


def _rendered(
    template: ChatTemplate,
    num_messages: int,
    *,
    add_generation_prompt: bool = False,
    answer: Mapping[str, Any] = _MESSAGES[1],
    before: Sequence[Mapping[str, Any]] = (),
    tried: Sequence[Sequence[Mapping[str, Any]] | None] = _TOOLS,
) -> str:
    """Empty where the template refuses; some that are made for tools fail without any."""
    messages: list[Mapping[str, Any]] = list(_MESSAGES[:num_messages])
    messages[1:2] = [answer]
    for tools in tried:
        try:
            return template.render(
                [*before, *messages],
                tools=tools,
                add_generation_prompt=add_generation_prompt,
            )
        except InvalidParameterError:
            continue
    return ""


def _behind(text: str, word: str) -> str:
    """What follows the word, which some templates write more than once; empty where it is not there."""
    return text.rpartition(word)[2] if word in text else ""


def _between(text: str, first: str, last: str) -> str:
    return _behind(text.rpartition(last)[0], first)


def _without_common_end(ids: Sequence[int], others: Sequence[int]) -> Sequence[int]:
    num_common = 0
    for one, other in zip(reversed(ids), reversed(others), strict=False):
        if one != other:
            break
        num_common += 1
    return ids[: len(ids) - num_common]


def _first_special(ids: Sequence[int], tokens: TokenView) -> int | None:
    for token_id in ids:
        if token_id in tokens.special:
            return token_id
        if tokens.decode(token_id).strip():
            return None
    return None
