"""Messages. As clients write them, in the one shape that every chat template's own wishes start from.

Nothing is dropped in silence: what this module does not know stays in the message, where a template may
read it, and what no text model can read is refused by its place. A template's own wishes (content as
parts, arguments as an object, …) are met later, in `octavo.chat.forms`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from octavo.chat.function_calls import as_tool_messages
from octavo.errors import InvalidParameterError, UnsupportedParameterError
from octavo.json_path import json_path

ROLES = ("system", "developer", "user", "assistant", "tool")
_MAX_SHOWN_CHARS = 80


def template_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The conversation with `content` a string, a list of text parts, or None (an assistant's calls).

    `developer` becomes `system`, a `refusal` becomes text, functions become tools, keys without a value
    are left out; all else is as the client sent it, in its order.

    Raises:
        InvalidParameterError: A message is not one; it names `messages[<position>].<field>`.
        UnsupportedParameterError: A message holds what a text model cannot read.
    """
    if not messages:
        raise InvalidParameterError("messages", "messages is empty; give at least one message.")
    given = as_tool_messages(messages)
    found = [
        _template_message(json_path("messages", i), message) for i, message in enumerate(given)
    ]
    _check_results(found)
    return found


def texts_of(message: Mapping[str, Any]) -> Iterator[str]:
    """The texts of a message of `template_messages`."""
    content = message.get("content")
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        yield from (part["text"] for part in content)


def _template_message(place: str, message: Mapping[str, Any]) -> dict[str, Any]:
    role = message.get("role")
    if role not in ROLES:
        raise InvalidParameterError(
            f"{place}.role", f"{place}.role is {_shown(role)}; use one of {', '.join(ROLES)}."
        )
    if message.get("audio") is not None:
        raise UnsupportedParameterError(
            f"{place}.audio", f"it is {_shown(message['audio'])}. Use text instead."
        )
    # A null content has a place of its own, which templates that print whole messages show.
    found = {n: value for n, value in message.items() if value is not None or n == "content"}
    for name in ("name", "tool_call_id", "refusal"):
        _check_text(f"{place}.{name}", found.get(name, ""))
    # Templates know `system`, of which `developer` is OpenAI's newer name.
    found["role"] = "system" if role == "developer" else role
    calls = _calls(place, found.get("tool_calls"))
    is_given = found.get("content") is not None
    content = _content(place, found if is_given else found.pop("refusal", None))
    found.pop("refusal", None)
    if content is None and not calls and role != "assistant":
        raise InvalidParameterError(
            f"{place}.content", f"{place}.content is missing; a {role} message needs one."
        )
    if calls:
        # Clients write no content as null, as "" and as no parts: it is the same message.
        found["content"] = content or None
        found["tool_calls"] = calls
    else:
        found["content"] = "" if content is None else content
        found.pop("tool_calls", None)
    return found


def _check_results(messages: Sequence[Mapping[str, Any]]) -> None:
    """Each must answer a call before it, whose id it names; of calls without ids any may be meant."""
    known: set[object] = set()
    for number, message in enumerate(messages):
        known |= {call.get("id") for call in message.get("tool_calls", ())}
        if message["role"] != "tool":
            continue
        place = json_path("messages", number)
        if not known:
            raise InvalidParameterError(
                place,
                f"{place} is a tool's result, and no message before it has tool_calls. "
                "Send the call as well.",
            )
        call_id = message.get("tool_call_id")
        if call_id is not None and call_id not in known and None not in known:
            raise InvalidParameterError(
                f"{place}.tool_call_id",
                f"{place}.tool_call_id is {_shown(call_id)}, and no call before it has that id. Send "
                "the call as well.",
            )


def _content(place: str, message: object) -> str | list[dict[str, Any]] | None:
    content = message["content"] if isinstance(message, Mapping) else message
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise InvalidParameterError(
            f"{place}.content",
            f"{place}.content is {_shown(content)}; it must be a text or a list of parts.",
        )
    return [_part(json_path(place, "content", number), part) for number, part in enumerate(content)]


def _part(place: str, part: object) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if (
        isinstance(part, Mapping)
        and kind in ("text", "refusal")
        and isinstance(part.get(kind), str)
    ):
        return dict(part) if kind == "text" else {"type": "text", "text": part["refusal"]}
    if isinstance(part, Mapping) and kind in ("text", "refusal"):
        _check_text(f"{place}.{kind}", part.get(kind))
    raise UnsupportedParameterError(
        place, f"it is of type {_shown(kind)}, and the model reads text alone."
    )


def _calls(place: str, calls: object) -> list[dict[str, Any]]:
    if calls is None:
        return []
    if not isinstance(calls, Sequence) or isinstance(calls, str | bytes):
        raise InvalidParameterError(
            f"{place}.tool_calls", f"{place}.tool_calls is {_shown(calls)}; it must be a list."
        )
    return [
        _call(json_path(place, "tool_calls", number), call) for number, call in enumerate(calls)
    ]


def _call(place: str, call: object) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping):
        raise InvalidParameterError(
            place, f'{place} is {_shown(call)}; it must be {{"function": {{"name": …}}}}.'
        )
    if not isinstance(function.get("name"), str):
        raise InvalidParameterError(
            f"{place}.function.name",
            f"{place}.function.name is {_shown(function.get('name'))}; it must be a text.",
        )
    given = {name: value for name, value in call.items() if value is not None}
    for name in ("id", "type"):
        _check_text(f"{place}.{name}", given.get(name, ""))
    arguments = function.get("arguments", "")
    if not isinstance(arguments, str | Mapping):
        raise InvalidParameterError(
            f"{place}.function.arguments",
            f"{place}.function.arguments is {_shown(arguments)}; it must be a text that holds JSON.",
        )
    if isinstance(arguments, str) and not arguments.strip():
        arguments = "{}"
    shaped = {**given, "function": {**function, "arguments": arguments}}
    return shaped if "type" in given else {"type": "function", **shaped}


def _check_text(place: str, value: object) -> None:
    if not isinstance(value, str):
        raise InvalidParameterError(place, f"{place} is {_shown(value)}; it must be a text.")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN_CHARS else text[:_MAX_SHOWN_CHARS] + "…"
