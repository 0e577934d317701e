"""Choice of the parsers for a model: the format of calls that reads back what the model's own chat template
writes, and the tags of reasoning that it knows."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from octavo.chat import ChatTemplate, ChatTemplates, template_messages
from octavo.chat.forms import PROBE_TOOL
from octavo.engine.requests.marked_text import MarkedText
from octavo.errors import InvalidParameterError
from octavo.server.openai.parsing.answer import Markup
from octavo.server.openai.parsing.formats import (
    CALL_FORMATS,
    HARMONY,
    CallFormat,
    TaggedJson,
    Tools,
)
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
# Of a template whose model thinks so.
_MARKS = {
    "mistral": "[/THINK]",
    "qwen3": "</think>",
    "seed_oss": "</seed:think>",
    "gemma4": "<channel|>",
    "openai_gptoss": "<|channel|>analysis<|message|>",
}
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
    has_channels = calls is HARMONY or (reasoning is not None and bool(reasoning.before_content))
    return Markup(calls_name, calls, reasoning_name, reasoning, HARMONY if has_channels else None)


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
        for rendered, around in _rendered_calls(template):
            for found, form in CALL_FORMATS.items():
                if _reads_call(form, rendered, around):
                    return found, form.as_written(rendered)
    return NONE, None


def _reasoning(
    templates: ChatTemplates | None, fields: Mapping[str, Any], name: str
) -> tuple[str, ReasoningFormat | None]:
    if name == NONE:
        return NONE, None
    if name != AUTO:
        return name, REASONING_FORMATS[name]
    for field in ("reasoning_content", "thinking", "reasoning"):
        if (tags := _tags(fields.get(field))) is not None:
            return _TEMPLATE, ReasoningFormat(*tags)
    source = "".join(template.source for template in templates or ())
    # One that assumes reasoning would take whole answers of models that may answer without.
    for found, mark in _MARKS.items():
        if mark in source:
            return found, REASONING_FORMATS[found]
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


def _rendered_calls(template: ChatTemplate) -> Iterator[tuple[str, str]]:
    """How it writes a call, with text of its own around it, and what it writes around an answer."""
    function = {"name": _NAME, "arguments": json.dumps(_ARGUMENTS)}
    for tools, call_id in itertools.product(_PROBES, _CALL_IDS):
        call = {"id": call_id, "type": "function", "function": function}
        answers = ({"content": None, "tool_calls": [call]}, {"content": _ANSWER})
        call_text, answer_text = (_rendered(template, answer, tools) for answer in answers)
        if call_text:
            yield call_text, answer_text.replace(_ANSWER, "")


def _rendered(
    template: ChatTemplate, answer: Mapping[str, Any], tools: list[Mapping[str, object]] | None
) -> str:
    """Behind the question; empty where the template refuses."""
    question = {"role": "user", "content": _QUESTION}
    messages = template_messages([question, {"role": "assistant", **answer}])
    try:
        text = template.render(messages, tools=tools, add_generation_prompt=False)
    except InvalidParameterError:
        return ""
    return text.rpartition(_QUESTION)[2]


def _reads_call(form: CallFormat, text: str, around: str) -> bool:
    """Whether it finds the call that was asked for in what a template made of it. A format without tags must
    leave nothing but what stands around an answer: else the tags are of another format."""
    parser = ToolCallParser(form, _TOOLS)
    pieces = [*parser.push(MarkedText(text)), *parser.flush()]
    rest = "".join(piece for piece in pieces if isinstance(piece, str))
    names = [piece.name for piece in pieces if isinstance(piece, CallBegin)]
    arguments = "".join(piece.text for piece in pieces if isinstance(piece, Arguments))
    return (
        names == [_NAME]
        and decoded(arguments) == _ARGUMENTS
        and (form.has_tags or rest.split() == around.split())
    )
