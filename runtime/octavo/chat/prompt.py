"""Prompt of a conversation. One conversation to one prompt, and the promise that nothing of it was lost on
the way.

A template leaves out what it does not know: tools that it has no place for, a role, a form of content. The
model would then answer another question than was asked, with status 200. So whatever must show is looked
for in the prompt; where it is not found at once, the template is asked again with something else in its
place, and a prompt that stays the same refuses the request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from octavo.chat.forms import PROBE_TOOL
from octavo.chat.messages import template_messages, texts_of
from octavo.chat.template import ChatTemplate, ChatTemplates
from octavo.errors import InvalidParameterError, UnsupportedParameterError

Message = Mapping[str, Any]

# A text of this length is not in a prompt by chance.
_TELLING_CHARS = 12
_OTHER_TEXT = "octavo other text"
_OTHER_NAME = "octavo_other_name"
_OTHER_DOCUMENT = {"title": "octavo other title", "text": _OTHER_TEXT}


def render_chat(
    templates: ChatTemplates,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    add_generation_prompt: bool | None = None,
    template_kwargs: Mapping[str, Any] | None = None,
) -> str:
    """The text of a conversation as clients write it, special tokens included.

    Args:
        tools: As clients send them; they reach the template as they are.
        template_kwargs: More variables for the template.

    Raises:
        InvalidParameterError: A message is wrong, or the template refuses them.
        UnsupportedParameterError: The prompt holds nothing of what the user wrote, of the system message, of
            calls or their results, of the tools or documents.
    """
    variables = dict(template_kwargs or {})
    known = template_messages(messages)
    template = templates.choose(has_tools=bool(tools or variables.get("tools")))

    def render(changed: Sequence[Message], **others: Any) -> str:
        given = {**variables, **others}
        return template.render(
            changed,
            tools=None if "tools" in others else tools,
            add_generation_prompt=add_generation_prompt,
            template_kwargs=given,
        )

    prompt = render(known)
    check = _Shown(template, prompt, render, known)
    check.texts("user", "what the user wrote", "Serve the model with another --chat-template.")
    check.texts("system", "the system message", "Put it into the user's message.")
    check.texts("tool", "the tools' results", "Put them into the user's message.")
    check.calls()
    if tools or variables.get("tools"):
        check.tools()
    if variables.get("documents"):
        check.documents()
    return prompt


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

    def texts(self, role: str, what: str, advice: str) -> None:
        """Of the messages of a role at least one must show."""
        places = [
            place
            for place, message in enumerate(self._messages)
            if message["role"] == role and any(text.strip() for text in texts_of(message))
        ]
        if not places or self._is_found([t for p in places for t in texts_of(self._messages[p])]):
            return
        changed = [*self._messages]
        for place in places:
            changed[place] = {**changed[place], "content": _OTHER_TEXT}
        if self._is_lost(changed):
            raise self._nothing_of(f"messages.{places[0]}.content", what, advice)

    def calls(self) -> None:
        """The calls of every message must show."""
        renamed = {
            place: _renamed(message, f"{_OTHER_NAME}{place}x")
            for place, message in enumerate(self._messages)
            if message.get("tool_calls")
        }
        if not renamed:
            return
        # All at once: a conversation of many calls is rendered once more, not once more for each.
        all_changed = [renamed.get(p, message) for p, message in enumerate(self._messages)]
        shown = (self._rendered(all_changed) or "").lower()
        for place, message in renamed.items():
            if f"{_OTHER_NAME}{place}x" in shown:
                continue
            changed = [*self._messages]
            changed[place] = message
            if self._is_lost(changed):
                raise self._nothing_of(
                    f"messages.{place}.tool_calls", "these calls", "Send them without content."
                )

    def tools(self) -> None:
        if self._is_lost(self._messages, tools=[PROBE_TOOL]):
            raise self._nothing_of("tools", "the tools", "Leave them out.")

    def documents(self) -> None:
        if self._is_lost(self._messages, documents=[_OTHER_DOCUMENT]):
            raise self._nothing_of(
                "chat_template_kwargs.documents", "the documents", "Put them into a message."
            )

    def _is_found(self, texts: Sequence[str]) -> bool:
        stripped = (text.strip() for text in texts)
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


def _renamed(message: Message, name: str) -> Message:
    """With other calls, whichever part of them a template shows."""
    function = {"name": name, "arguments": json.dumps({_OTHER_NAME: _OTHER_TEXT})}
    calls = [{**call, "function": function} for call in message["tool_calls"]]
    return {**message, "tool_calls": calls}
