"""Forms of chat messages. What a chat template wants its messages to look like, learnt by asking it.

Templates agree on names and on little else: one reads content as a string, one as a list of parts, one
tests that the content of a message with tool calls `is none`, one writes arguments as the text that they
came as and one as an object. The wrong form raises, or, worse, renders to nothing. So each template is
rendered with made-up messages when it is loaded, and messages are given to it in the form that showed.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from octavo.errors import InvalidParameterError
from octavo.json_depth import is_too_deep

Render = Callable[[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]] | None], str]
"""Messages and tools to a prompt; raises `InvalidParameterError` where the template refuses them."""

_WORD, _LAST_WORD = "octavoprobe", "octavoend"
_NAME, _KEY, _VALUE = "octavoname", "octavokey", "octavovalue"
# Nine letters and digits, which is what Mistral's templates ask of an id.
_CALL_ID = "octavo123"
_ARGUMENTS = {_KEY: _VALUE}
_ROLES = ("system", "user", "assistant", "tool")
_ARGUMENTS_TEXT = json.dumps(_ARGUMENTS)
PROBE_TOOL = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": "A probe.",
        "parameters": {"type": "object", "properties": {_KEY: {"type": "string"}}},
    },
}


class ContentForm(enum.Enum):
    """Of a message's content: as the client sent it, or always one of the others."""

    AS_SENT = "as_sent"
    STRING = "string"
    PARTS = "parts"
    ONE_PART = "one_part"


class ContentFormat(enum.StrEnum):
    """What the user of a template says of it, in vLLM's words: texts, parts, or what it shows to read."""

    AUTO = "auto"
    STRING = "string"
    OPENAI = "openai"


class NoContent(enum.Enum):
    """Of a message that holds tool calls alone."""

    NULL = "null"
    MISSING = "missing"
    EMPTY = "empty"


class Arguments(enum.Enum):
    """Of a tool call: as the client sent it, JSON in a string, or the value itself."""

    AS_SENT = "as_sent"
    TEXT = "text"
    OBJECT = "object"


@dataclass(frozen=True, slots=True)
class MessageForms:
    """The forms of one template; `content` by role, a string where a role is not in it."""

    content: Mapping[str, ContentForm] = field(default_factory=dict)
    no_content: NoContent = NoContent.NULL
    arguments: Arguments = Arguments.AS_SENT

    def applied(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """A message of `template_messages` in these forms."""
        found = dict(message)
        content = message.get("content")
        if content is None and message.get("tool_calls"):
            if self.no_content is NoContent.MISSING:
                found.pop("content", None)
            else:
                found["content"] = None if self.no_content is NoContent.NULL else ""
        else:
            form = self.content.get(str(message.get("role")), ContentForm.STRING)
            found["content"] = _in_form(content, form)
        if calls := message.get("tool_calls"):
            found["tool_calls"] = [self._applied_to_call(call) for call in calls]
        return found

    def _applied_to_call(self, call: Mapping[str, Any]) -> dict[str, Any]:
        function = call["function"]
        arguments = function["arguments"]
        if self.arguments is Arguments.OBJECT and isinstance(arguments, str):
            arguments = _decoded(arguments)
        elif self.arguments is Arguments.TEXT and not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        return {**call, "function": {**function, "arguments": arguments}}


def learn_forms(render: Render, given: ContentFormat = ContentFormat.AUTO) -> MessageForms:
    """Asks a template what it shows; some thirty renderings of a few short messages."""
    no_content, arguments = _call_forms(render)
    known = MessageForms(no_content=no_content, arguments=arguments)
    if given is ContentFormat.AUTO:
        content = {role: _content_form(render, role, known) for role in _ROLES}
    else:
        is_parts = given is ContentFormat.OPENAI
        content = dict.fromkeys(_ROLES, ContentForm.PARTS if is_parts else ContentForm.STRING)
    return MessageForms(content, no_content, arguments)


def _in_form(content: Any, form: ContentForm) -> Any:
    if form is ContentForm.AS_SENT or (form is ContentForm.PARTS and isinstance(content, list)):
        return content
    text = "\n".join(part["text"] for part in content) if isinstance(content, list) else content
    if form is ContentForm.STRING:
        return text
    return [{"type": "text", "text": text}] if text else []


def _decoded(arguments: str) -> Any:
    """What is no JSON, or too deep for a template, stays the text that it is: the model wrote it, and may
    read it again."""
    if not arguments.strip():
        return {}
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return arguments if is_too_deep(value) else value


def _content_form(render: Render, role: str, known: MessageForms) -> ContentForm:
    def prompt(content: Any) -> str:
        return _rendered(render, _conversation(role, content, known)).lower()

    as_string = prompt(_WORD)
    as_parts = prompt([{"type": "text", "text": _WORD}])
    shows_all = _LAST_WORD in prompt(
        [{"type": "text", "text": word} for word in (_WORD, _LAST_WORD)]
    )
    if _WORD in as_string:
        return ContentForm.AS_SENT if as_string == as_parts and shows_all else ContentForm.STRING
    # A list that is printed shows the word as well, in Python's or in JSON's notation.
    if _WORD not in as_parts or "'text'" in as_parts or '"text"' in as_parts:
        return ContentForm.STRING
    return ContentForm.PARTS if shows_all else ContentForm.ONE_PART


def _conversation(role: str, content: Any, known: MessageForms) -> list[dict[str, Any]]:
    """With one message of `role` that reads `content`, between such as templates insist on."""
    message = {"role": role, "content": content}
    user = {"role": "user", "content": "hello"}
    if role == "user":
        return [message]
    if role == "system":
        return [message, user]
    if role == "assistant":
        return [user, message, user]
    call = known.applied({"role": "assistant", "content": None, "tool_calls": [_call(_ARGUMENTS)]})
    return [user, call, {**message, "tool_call_id": _CALL_ID, "name": _NAME}]


def _call_forms(render: Render) -> tuple[NoContent, Arguments]:
    """The first of the forms that show the most, null before a missing key before an empty text."""
    best, chosen = 0, (NoContent.NULL, Arguments.AS_SENT)
    for content in ("hello", [{"type": "text", "text": "hello"}]):
        for tools in (None, [PROBE_TOOL]):
            probe = _CallProbe(render, {"role": "user", "content": content}, tools)
            for no_content in NoContent:
                text = probe.score(no_content, _ARGUMENTS_TEXT)
                value = probe.score(no_content, _ARGUMENTS)
                if max(text, value) > best:
                    best, chosen = max(text, value), (no_content, _arguments_form(text, value))
            if best == _FULL_SCORE:
                return chosen
    # Where no call shows, content that is taken: what is refused then is the calls, and not the content.
    return chosen if best else (_taken_content(render), Arguments.AS_SENT)


def _taken_content(render: Render) -> NoContent:
    probe = _CallProbe(render, {"role": "user", "content": "hello"}, None)
    taken = (one for one in NoContent if probe.takes(one))
    return next(taken, NoContent.NULL)


def _arguments_form(text: int, value: int) -> Arguments:
    """Where a template reads both, the object, as transformers gives them: it is written as in training then,
    however a client spaced it."""
    return Arguments.TEXT if text > value else Arguments.OBJECT


_FULL_SCORE = 3


class _CallProbe:
    """A question, a call and its result, with or without tools at hand."""

    def __init__(
        self,
        render: Render,
        user: Mapping[str, Any],
        tools: Sequence[Mapping[str, Any]] | None,
    ) -> None:
        self._render = render
        self._user = user
        self._tools = tools
        # The name shows in the definition of the tool as well.
        self._num_names = _rendered(render, [user], tools).count(_NAME)

    def score(self, no_content: NoContent, arguments: Any) -> int:
        """2 for a call whose name shows, and 1 for arguments that show as JSON, not quoted in JSON."""
        prompt = self._prompt(no_content, arguments)
        if no_content is NoContent.NULL:
            plain = self._prompt(NoContent.EMPTY, arguments)
            if plain and prompt.count("None") > plain.count("None"):
                return 0  # the template prints the null
        shows_arguments = _KEY in prompt and _VALUE in prompt and not _is_quoted(prompt)
        return 2 * (prompt.count(_NAME) > self._num_names) + shows_arguments

    def takes(self, no_content: NoContent) -> bool:
        prompt = self._prompt(no_content, _ARGUMENTS_TEXT)
        return prompt != "" and "None" not in prompt

    def _prompt(self, no_content: NoContent, arguments: Any) -> str:
        message = {"role": "assistant", "content": None, "tool_calls": [_call(arguments)]}
        call = MessageForms(no_content=no_content).applied(message)
        result = {"role": "tool", "content": "1", "tool_call_id": _CALL_ID, "name": "other"}
        return _rendered(self._render, [self._user, call, result], self._tools)


def _is_quoted(prompt: str) -> bool:
    """JSON within a JSON string, or a dictionary as Python prints it."""
    return f'\\"{_KEY}' in prompt or f"'{_KEY}'" in prompt


def _call(arguments: Any) -> dict[str, Any]:
    function = {"name": _NAME, "arguments": arguments}
    return {"id": _CALL_ID, "type": "function", "function": function}


def _rendered(
    render: Render,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """Nothing where the template refuses."""
    try:
        return render(messages, tools)
    except InvalidParameterError:
        return ""
