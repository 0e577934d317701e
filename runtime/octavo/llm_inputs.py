"""Inputs of `LLM`. What callers of `LLM` hand in, in its several forms, as lists of one.

Forms that are taken are those of vLLM's `LLM`; everything else is refused by name before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, TypeVar

from octavo.errors import InvalidParameterError

T = TypeVar("T")


class TextPrompt(TypedDict):
    prompt: str


class TokensPrompt(TypedDict):
    prompt_token_ids: Sequence[int]


Prompt = str | Sequence[int] | TextPrompt | TokensPrompt
"""Text, or token ids that are used as they are; either may stand in a dictionary under its name."""
Message = Mapping[str, Any]
"""One chat message, `{"role": …, "content": …}`."""


def as_prompts(given: Any) -> list[str | list[int]]:
    """`[1, 2]` is one prompt of token ids, `["a", "b"]` and `[[1], [2]]` are two prompts.

    Raises:
        InvalidParameterError: Something else was given; the message shows it.
    """
    if isinstance(given, str | Mapping) or _is_token_ids(given):
        return [_as_prompt(given)]
    if isinstance(given, bytes) or not hasattr(given, "__iter__"):
        raise _no_prompt(given)
    return [_as_prompt(item) for item in given]


def as_pairs(text_1: Any, text_2: Any) -> list[tuple[str, str]]:
    """One first text for all of the second, or one each.

    Raises:
        InvalidParameterError: One is no text, or the counts do not match.
    """
    first, second = _as_texts("text_1", text_1), _as_texts("text_2", text_2)
    if len(first) == 1:
        first *= len(second)
    if len(first) != len(second):
        raise InvalidParameterError(
            "text_1",
            f"There are {len(first)} texts in text_1 and {len(second)} in text_2; give one for all, or one "
            "each.",
        )
    return list(zip(first, second, strict=True))


def as_conversations(messages: Any) -> list[Sequence[Message]]:
    """A list of messages is one conversation, a list of such lists is several.

    Raises:
        InvalidParameterError: Something else was given.
    """
    if _is_conversation(messages):
        return [messages] if messages else []
    if isinstance(messages, Sequence) and all(map(_is_conversation, messages)):
        return list(messages)
    raise InvalidParameterError(
        "messages",
        'A conversation is a list of messages, [{"role": …, "content": …}], not '
        f"{messages!r:.80}.",
    )


def one_each(name: str, values: object, kind: type[T], count: int) -> list[T]:
    """`values` as one for each prompt.

    Raises:
        InvalidParameterError: There are more or fewer, or one is not of that type.
    """
    if isinstance(values, Sequence) and not isinstance(values, str):
        if len(values) != count:
            raise InvalidParameterError(
                name,
                f"There are {count} prompts and {len(values)} {name}; give one for all, or one each.",
            )
        given = list(values)
    else:
        given = [values] * count
    for value in given:
        if not isinstance(value, kind):
            raise InvalidParameterError(
                name, f"{name} holds {value!r:.80}; it must be {kind.__name__}."
            )
    return given


def _as_texts(name: str, given: Any) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise InvalidParameterError(
            name, f"{name} is a text or a list of texts, not {given!r:.80}."
        )
    for text in texts:
        if not _is_unicode(text):
            raise InvalidParameterError(
                name, f"{text!r:.80} in {name} holds half of a surrogate pair; mend the text."
            )
    return list(texts)


def _as_prompt(item: Any) -> str | list[int]:
    if isinstance(item, Mapping):
        if len(item) != 1 or not item.keys() <= {"prompt", "prompt_token_ids"}:
            raise _no_prompt(item)
        ((name, item),) = item.items()
        if (name == "prompt") != isinstance(item, str):
            raise _no_prompt({name: item})
    if isinstance(item, str):
        if not _is_unicode(item):
            raise InvalidParameterError(
                "prompts", f"The prompt {item!r:.80} holds half of a surrogate pair; mend the text."
            )
        return item
    is_list = isinstance(item, Sequence) and not isinstance(item, bytes)
    if is_list and (len(item) == 0 or _is_token_ids(item)):
        return list(item)
    raise _no_prompt(item)


def _is_conversation(item: object) -> bool:
    return (
        isinstance(item, Sequence)
        and not isinstance(item, str)
        and all(isinstance(message, Mapping) for message in item)
    )


def _is_token_ids(item: object) -> bool:
    return (
        isinstance(item, Sequence)
        and not isinstance(item, str | bytes)
        and len(item) > 0
        and all(isinstance(token, int) and not isinstance(token, bool) for token in item)
    )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _no_prompt(item: object) -> InvalidParameterError:
    is_array = hasattr(item, "tolist")
    return InvalidParameterError(
        "prompts",
        'A prompt is a text, a list of token ids, {"prompt": text} or {"prompt_token_ids": ids}, not '
        f"{item!r:.80}.{' Give what its tolist() returns.' if is_array else ''}",
    )
