"""Choice of the parsers for a model: the format of calls that reads back what the model's own chat template
writes, and the tags of reasoning that it knows."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from octavo.chat import ChatTemplate, ChatTemplates, template_messages
from octavo.chat.forms import PROBE_TOOL
from octavo.engine.requests.marked_text import MarkedText
from octavo.errors import InvalidParameterError
from octavo.server.openai.parsing.answer import Markup
from octavo.server.openai.parsing.formats import CALL_FORMATS, CallFormat, TaggedJson, Tools
from octavo.server.openai.parsing.names import AUTO, CALL_ALIASES, NONE, REASONING_ALIASES
from octavo.server.openai.parsing.pieces import Arguments, CallBegin
from octavo.server.openai.parsing.reasoning import REASONING_FORMATS, ReasoningFormat
from octavo.server.openai.parsing.schema_types import decoded
from octavo.server.openai.parsing.tool_calls import ToolCallParser

_QUESTION, _ANSWER = "octavoquestion", "octavoanswer"
_NAME: str = PROBE_TOOL["function"]["name"]  # type: ignore[index]
_ARGUMENTS = {"octavokey": "octavovalue"}
_PROBES: tuple[list[Mapping[str, object]] | None, ...] = ([PROBE_TOOL], None)
_TOOLS: Tools = {_NAME: PROBE_TOOL["function"]["parameters"]}  # type: ignore[index]
_TEMPLATE = "response_template"
# Those that a call is rendered with: there are templates that insist on nine letters, and one that writes the
# id in place of the name.
_CALL_IDS = ("octavo123", f"functions.{_NAME}:0")


def choose_markup(
    templates: ChatTemplates | None,
    config: Mapping[str, Any],
    *,
    tool_call_parser: str = AUTO,
    reasoning_parser: str = AUTO,
) -> Markup:
    """What the model's answers are read for.

    Args:
        config: Its tokenizer_config.json; the tags that a `response_template` there tells are taken.
        tool_call_parser, reasoning_parser: `auto`, `none`, or a name of `octavo.server.openai.parsing.names`.
    """
    told = config.get(_TEMPLATE)
    fields = told.get("fields") if isinstance(told, dict) else None
    given = fields if isinstance(fields, dict) else {}
    calls_name, calls = _calls(
        templates, given, CALL_ALIASES.get(tool_call_parser, tool_call_parser)
    )
    reasoning_name, reasoning = _reasoning(
        templates, given, REASONING_ALIASES.get(reasoning_parser, reasoning_parser)
    )
    channels = _channels(calls, reasoning_name)
    return Markup(calls_name, calls, reasoning_name, reasoning, channels)


def _calls(
    templates: ChatTemplates | None, fields: Mapping[str, Any], name: str
) -> tuple[str, CallFormat | None]:
    if name == NONE:
        return NONE, None
    if name != AUTO:
        source = "".join(template.source for template in templates or ())
        return name, CALL_FORMATS[name].as_written(source)
    if (told := _told_calls(fields.get("tool_calls"))) is not None:
        return _TEMPLATE, told
    for template in templates or ():
        for rendered in _rendered_calls(template):
            if (found := _format_of(rendered)) is not None:
                return found
    return NONE, None


def _channels(calls: CallFormat | None, reasoning_name: str) -> CallFormat | None:
    """What reads the heads of a model whose content has some."""
    for form in (calls, *CALL_FORMATS.values()):
        is_meant = form is not None and (form is calls or form.reasoning == reasoning_name)
        if form is not None and is_meant and (form.heads or form.reads_reasoning):
            return form
    return None


def _reasoning(
    templates: ChatTemplates | None, fields: Mapping[str, Any], name: str
) -> tuple[str, ReasoningFormat | None]:
    if name == NONE:
        return NONE, None
    if name != AUTO:
        form = REASONING_FORMATS[name]
        sources = (template.source for template in templates or ())
        known = (form.as_written(source) for source in sources)
        return name, next((one for one in known if one is not None), form)
    for field in ("reasoning_content", "thinking", "reasoning"):
        if (tags := _tags(fields.get(field))) is not None:
            return _TEMPLATE, ReasoningFormat(*tags)
    for template in templates or ():
        # Tags may stand in the template, or be put together by it.
        texts = (template.source, _rendered(template, {"content": _ANSWER}, None, is_asked=True))
        for found, form in REASONING_FORMATS.items():
            if (written := form.as_written("\n".join(texts))) is not None:
                return found, written
    return NONE, None


def _told_calls(field: object) -> CallFormat | None:
    """Of a `response_template`: JSON of name and arguments between two texts, which is read as it is told."""
    if not isinstance(field, dict) or field.get("content") != "json" or field.get("content_args"):
        return None
    tags = _tags(field)
    transform = field.get("transform")
    if tags is None or not isinstance(transform, dict) or transform.get("function") != "{content}":
        return None
    return TaggedJson(*tags)


def _tags(field: object) -> tuple[str, str] | None:
    if not isinstance(field, dict):
        return None
    opening, closing = field.get("open"), field.get("close")
    if not isinstance(opening, str) or not isinstance(closing, str):
        return None
    return (opening.strip(), closing.strip()) if opening.strip() and closing.strip() else None


class _RenderedCall(NamedTuple):
    """How a template writes a call, with text of its own around it, and what it writes around an answer."""

    text: str
    around: str


def _rendered_calls(template: ChatTemplate) -> Iterator[_RenderedCall]:
    function = {"name": _NAME, "arguments": json.dumps(_ARGUMENTS)}
    for tools, call_id in itertools.product(_PROBES, _CALL_IDS):
        call = {"id": call_id, "type": "function", "function": function}
        answers = ({"content": None, "tool_calls": [call]}, {"content": _ANSWER})
        call_text, answer_text = (_rendered(template, answer, tools) for answer in answers)
        if call_text:
            yield _RenderedCall(call_text, answer_text.replace(_ANSWER, ""))


def _rendered(
    template: ChatTemplate,
    answer: Mapping[str, Any],
    tools: list[Mapping[str, object]] | None,
    *,
    is_asked: bool = False,
) -> str:
    """Behind the question; empty where the template refuses.

    Args:
        is_asked: With another question, and what begins an answer to it.
    """
    question = {"role": "user", "content": _QUESTION}
    messages = [question, {"role": "assistant", **answer}, *([question] if is_asked else [])]
    try:
        text = template.render(
            template_messages(messages), tools=tools, add_generation_prompt=is_asked
        )
    except InvalidParameterError:
        return ""
    return text.partition(_QUESTION)[2] if is_asked else text.rpartition(_QUESTION)[2]


def _format_of(call: _RenderedCall) -> tuple[str, CallFormat] | None:
    """The one that reads the call that was asked for, and best leaves nothing but what stands around an
    answer. A format without tags must: else the tags are of another format."""
    best, found = (False, 0), None
    for name, given in CALL_FORMATS.items():
        form = given.as_written(call.text)
        rest = _rest(form, call.text)
        if rest is None:
            continue
        heads = [head for head in form.heads if head in call.around]
        around = call.around
        for head in heads:
            around = around.replace(head, "")
        is_all = "".join(rest.split()) == "".join(around.split())
        score = (is_all, len(heads))
        if (is_all or form.has_tags) and (found is None or score > best):
            best, found = score, (name, form)
    return found


def _rest(form: CallFormat, text: str) -> str | None:
    """What is content of a text with the call that was asked for; None where that is not found."""
    parser = ToolCallParser(form, _TOOLS)
    pieces = [*parser.push(MarkedText(text)), *parser.flush()]
    names = [piece.name for piece in pieces if isinstance(piece, CallBegin)]
    arguments = "".join(piece.text for piece in pieces if isinstance(piece, Arguments))
    if names != [_NAME] or decoded(arguments) != _ARGUMENTS:
        return None
    return "".join(piece for piece in pieces if isinstance(piece, str))
