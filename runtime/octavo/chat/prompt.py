"""Prompt of a conversation. One conversation to one prompt, and the promise that nothing of it was lost on
the way.

A template leaves out what it does not know: tools that it has no place for, a role, a form of content. The
model would then answer another question than was asked, with status 200. So whatever must show is looked
for in the prompt; where it is not found at once, the template is asked again with something else in its
place, and a prompt that stays the same refuses the request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from octavo.chat.forms import PROBE_TOOL
from octavo.chat.messages import template_messages, texts_of
from octavo.chat.template import ChatTemplate, ChatTemplates
from octavo.chat.tools import check_tools
from octavo.chat.variables import known_variables
from octavo.errors import InvalidParameterError, UnsupportedParameterError
from octavo.json_path import json_path

Message = Mapping[str, Any]

# A text of this length is not in a prompt by chance.
_TELLING_CHARS = 12
_END_MARK = "octavo_end_of_text"
_OTHER_TEXT = "octavo other text"
_OTHER_KEY = "octavo_other_key"
_OTHER_DOCUMENT = {"title": "octavo other title", "text": _OTHER_TEXT}


def render_chat(
    templates: ChatTemplates,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    add_generation_prompt: bool | None = None,
    continue_final_message: bool = False,
    template_kwargs: Mapping[str, Any] | None = None,
) -> str:
    """The text of a conversation as clients write it, special tokens included.

    Args:
        tools: As clients send them; they reach the template as they are.
        continue_final_message: The prompt ends within the last message, which the model goes on with.
        template_kwargs: More variables for the template.

    Raises:
        InvalidParameterError: A message or a tool is wrong, or the template refuses them.
        UnsupportedParameterError: The prompt holds nothing of what the user wrote, of a system message, of a
            message's calls, of a call's result, of the tools or documents, or the template does not read one
            of `template_kwargs`.
    """
    variables = _variables(template_kwargs)
    known = template_messages(messages)
    if tools is not None:
        check_tools(tools)
    if continue_final_message:
        if add_generation_prompt:
            raise InvalidParameterError(
                "continue_final_message",
                "continue_final_message goes on with the last message, and add_generation_prompt begins a "
                "new one. Leave one out.",
            )
        add_generation_prompt = False
    template = templates.choose(
        has_tools=bool(tools or variables.get("tools")),
        has_documents=bool(variables.get("documents")),
    )
    variables = known_variables(template, variables)

    def render(changed: Sequence[Message], **others: Any) -> str:
        given = {**variables, **others}
        return template.render(
            changed,
            tools=None if "tools" in others else tools,
            add_generation_prompt=add_generation_prompt,
            template_kwargs=given,
        )

    try:
        prompt = render(known)
    except InvalidParameterError as error:
        raise _at_its_place(error, render, known) from error
    check = _Shown(template, prompt, render, known)
    check.question()
    check.system()
    check.results()
    check.calls()
    if tools or variables.get("tools"):
        check.tools()
    if variables.get("documents"):
        check.documents()
    return _unfinished(render, known) if continue_final_message else prompt


def _variables(given: object) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise InvalidParameterError(
            "chat_template_kwargs",
            f"chat_template_kwargs is {given!r:.80}; it must be an object of variables by name.",
        )
    return dict(given)


def _at_its_place(
    error: InvalidParameterError, render: Callable[..., str], messages: Sequence[Message]
) -> InvalidParameterError:
    """What the template says of the messages, with the first of them that it does not take: without it and
    those behind it the conversation renders."""
    if error.parameter != "messages":
        return error
    good, bad = 0, len(messages)
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            render(messages[:middle])
            good = middle
        except InvalidParameterError:
            bad = middle
    place = json_path("messages", good)
    return InvalidParameterError(place, f"At {place}: {error}")


def _unfinished(render: Callable[..., str], messages: Sequence[Message]) -> str:
    """The prompt up to the end of the last message's text: a mark behind it shows where that is."""
    *before, last = messages
    texts = list(texts_of(last))
    if last["role"] != "assistant" or last.get("tool_calls") or not any(map(str.strip, texts)):
        raise InvalidParameterError(
            "continue_final_message",
            "continue_final_message needs a last message of the role assistant, with text and without calls.",
        )
    content = last["content"]
    if isinstance(content, str):
        marked: Any = content + _END_MARK
    else:
        marked = [*content[:-1], {**content[-1], "text": content[-1]["text"] + _END_MARK}]
    prompt = render([*before, {**last, "content": marked}])
    end = prompt.rfind(_END_MARK)
    if end < 0:
        raise UnsupportedParameterError(
            "continue_final_message",
            "the model's chat template does not write the last message as it is. Leave it out.",
        )
    return prompt[:end]


class _Shown:
    """Refuses what `prompt` does not depend on."""

    def __init__(
        self,
        template: ChatTemplate,
        prompt: str,
        render: Callable[..., str],
        messages: Sequence[Message],
    ) -> None:
        self._template = template
        self._prompt = prompt
        self._render = render
        self._messages = messages

    def question(self) -> None:
        """Of what the user wrote something must show: some templates read the last message alone."""
        places = self._places("user")
        if not places or any(self._is_found(place) for place in places):
            return
        if self._is_lost(self._with({place: self._other_text(place) for place in places})):
            raise self._nothing_of(
                json_path("messages", places[0], "content"),
                "what the user wrote",
                "Serve the model with another --chat-template.",
            )

    def system(self) -> None:
        """Every system message must show, be it only while the user has the word.

        Mistral's templates write it where the last message is a user's. With a call or its result behind
        that, such a model was trained to go on without.
        """
        for place, changed in self._lost(self._other_texts("system")):
            turn = self._end_of_last_question()
            shown = self._rendered(self._messages[:turn])
            if place < turn and shown != self._rendered(self._with({place: changed})[:turn]):
                continue
            raise self._nothing_of(
                json_path("messages", place, "content"),
                "this system message",
                "Put it into the first message, where the model knows system messages, or into the user's.",
            )

    def results(self) -> None:
        """Every result of a tool must show."""
        for place, _ in self._lost(self._other_texts("tool")):
            raise self._nothing_of(
                json_path("messages", place, "content"),
                "this tool's result",
                "Put it into the user's message.",
            )

    def calls(self) -> None:
        """Every call of every message must show."""
        places = [p for p, message in enumerate(self._messages) if message.get("tool_calls")]
        if not places:
            return
        # All at once: a conversation of many calls is rendered once more, not once more for each.
        changed = {place: _renamed(self._messages[place], place) for place in places}
        shown = (self._rendered(self._with(changed)) or "").lower()
        for place in places:
            calls = self._messages[place]["tool_calls"]
            lost = [
                number
                for number in range(len(calls))
                if _call_mark(place, number) not in shown
                and self._is_lost(
                    self._with({place: _renamed(self._messages[place], place, number)})
                )
            ]
            if len(lost) == len(calls):
                raise self._nothing_of(
                    json_path("messages", place, "tool_calls"),
                    "these calls",
                    self._advice_on_calls(place),
                )
            if lost:
                raise self._nothing_of(
                    json_path("messages", place, "tool_calls", lost[0]),
                    "this call, though of others beside it,",
                    "Send each in a message of its own, its result behind it.",
                )

    def _advice_on_calls(self, place: int) -> str:
        """Some templates write calls where there is no text beside them."""
        bare = {**self._messages[place], "content": None}
        first, other = (
            self._rendered(self._with({place: message}))
            for message in (bare, _renamed(bare, place))
        )
        is_shown = first is not None and first != other
        return (
            "Send them without content." if is_shown else "Write them into the message's content."
        )

    def tools(self) -> None:
        if self._is_lost(self._messages, tools=[PROBE_TOOL]):
            raise self._nothing_of("tools", "the tools", "Leave them out.")

    def documents(self) -> None:
        if self._is_lost(self._messages, documents=[_OTHER_DOCUMENT]):
            raise self._nothing_of(
                "chat_template_kwargs.documents", "the documents", "Put them into a message."
            )

    def _lost(self, changed: Mapping[int, Message]) -> Iterator[tuple[int, Message]]:
        """Those of the changed messages, each with its mark in it, that the prompt does not depend on."""
        if not changed:
            return
        # All at once: a conversation of many calls is rendered once more, not once more for each.
        shown = (self._rendered(self._with(changed)) or "").lower()
        for place, message in changed.items():
            if _mark(place) not in shown and self._is_lost(self._with({place: message})):
                yield place, message

    def _with(self, changed: Mapping[int, Message]) -> list[Message]:
        return [changed.get(place, message) for place, message in enumerate(self._messages)]

    def _other_texts(self, role: str) -> dict[int, Message]:
        """Of the messages of a role whose text is not found as it is."""
        return {
            place: self._other_text(place)
            for place in self._places(role)
            if not self._is_found(place)
        }

    def _other_text(self, place: int) -> Message:
        return {**self._messages[place], "content": _mark(place)}

    def _places(self, role: str) -> list[int]:
        """Of the messages of a role that say something."""
        return [
            place
            for place, message in enumerate(self._messages)
            if message["role"] == role and any(text.strip() for text in texts_of(message))
        ]

    def _end_of_last_question(self) -> int:
        """How many messages there are up to the user's last one, that included."""
        users = [p for p, message in enumerate(self._messages) if message["role"] == "user"]
        return users[-1] + 1 if users else 0

    def _is_found(self, place: int) -> bool:
        stripped = (text.strip() for text in texts_of(self._messages[place]))
        return any(len(text) >= _TELLING_CHARS and text in self._prompt for text in stripped)

    def _is_lost(self, messages: Sequence[Message], **others: Any) -> bool:
        return self._rendered(messages, **others) == self._prompt

    def _rendered(self, messages: Sequence[Message], **others: Any) -> str | None:
        """None where the template refuses what was put in: it looked at it."""
        try:
            return self._render(messages, **others)
        except InvalidParameterError:
            return None

    def _nothing_of(self, parameter: str, what: str, advice: str) -> UnsupportedParameterError:
        return UnsupportedParameterError(
            parameter,
            f"the model's chat template ({self._template.origin}) puts nothing of {what} into the prompt. "
            f"{advice}",
        )


def _mark(place: int) -> str:
    """In lower case and ended by a letter: neither another's mark nor lost where a template changes case."""
    return f"octavo_other_{place}x"


def _call_mark(place: int, number: int) -> str:
    return f"octavo_other_{place}x{number}y"


def _renamed(message: Message, place: int, number: int | None = None) -> Message:
    """With another call in place of one, or of each, whichever part of it a template shows."""
    calls = list(message["tool_calls"])
    for one in range(len(calls)) if number is None else (number,):
        arguments = json.dumps({_OTHER_KEY: _OTHER_TEXT})
        function = {"name": _call_mark(place, one), "arguments": arguments}
        calls[one] = {**calls[one], "function": function}
    return {**message, "tool_calls": calls}
