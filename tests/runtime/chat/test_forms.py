"""Messages of OpenAI's shape become, under published templates, what transformers makes of them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from octavo.chat import ChatTemplate, ContentFormat, template_messages
from octavo.errors import InvalidParameterError
from tests.support.runtime import published_templates as published

VARIABLES = {"bos_token": "<bos>", "eos_token": "<eos>"}
TOOLS = [{"type": "function", "function": {"parameters": {"type": "object"}, "name": "ls"}}]
ARGUMENTS = '{"dir": "/", "depth": 2, "only": ["a", null]}'
CALL = {
    "id": "abcdefgh1",
    "type": "function",
    "function": {"name": "ls", "arguments": ARGUMENTS},
}
CHAT: list[dict[str, Any]] = [
    {"role": "user", "content": "List the root."},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "abcdefgh1", "content": "etc"},
    {"role": "assistant", "content": "It holds etc."},
    {"role": "user", "content": "Thank you."},
]


def transformers_prompt(
    template: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None
) -> str:
    """`apply_chat_template` drops a null content before this; here it stays where a template tests it."""
    rendered, _ = render_jinja_template(
        [messages], tools=tools, chat_template=template, add_generation_prompt=True, **VARIABLES
    )
    prompt: str = rendered[0]
    return prompt


def our_prompt(
    template: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None
) -> str:
    return ChatTemplate(template, VARIABLES).render(template_messages(messages), tools=tools)


def with_objects(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Arguments as transformers' own documentation has them."""
    changed = copy.deepcopy(messages)
    for message in changed:
        for call in message.get("tool_calls") or []:
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return changed


@pytest.mark.parametrize(
    ("template", "takes_objects"),
    [
        (published.QWEN, False),
        (published.QWEN_CODER, True),
        (published.LLAMA3, True),
        (published.MISTRAL, True),
        (published.DEEPSEEK_R1_DISTILL, False),
        (published.HERMES, True),
    ],
    ids=["qwen", "qwen-coder", "llama3", "mistral", "deepseek-r1-distill", "hermes"],
)
@pytest.mark.parametrize("no_content", [None, "", []], ids=["null", "empty", "no-parts"])
@pytest.mark.parametrize("tools", [None, TOOLS], ids=["no-tools", "tools"])
def test_calls_in_the_history_are_what_the_template_makes_of_its_own_form(
    template: str, takes_objects: bool, no_content: Any, tools: Any
) -> None:
    expected = transformers_prompt(template, with_objects(CHAT) if takes_objects else CHAT, tools)
    assert "ls" in expected
    sent = copy.deepcopy(CHAT)
    sent[1]["content"] = no_content
    assert our_prompt(template, sent, tools) == expected
    # `LLM.chat` also takes the arguments as transformers does.
    if takes_objects or template == published.DEEPSEEK_R1_DISTILL:
        assert our_prompt(template, with_objects(sent), tools) == expected


def test_a_template_that_prints_what_is_missing_gets_an_empty_content() -> None:
    template = (
        "{% for m in messages %}<{{ m.role }}>{{ m['content'] ~ '' }}"
        "{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}{% endfor %}"
    )
    assert our_prompt(template, CHAT[:2]) == "<user>List the root.<assistant>ls"


PARTS = [{"type": "text", "text": "Is this"}, {"type": "text", "text": "safe?"}]


@pytest.mark.parametrize(
    ("template", "content", "as_read"),
    [
        (published.LLAMA_GUARD, "Is this safe?", [{"type": "text", "text": "Is this safe?"}]),
        (published.LLAMA_GUARD, PARTS, PARTS),
        (published.VISION, PARTS, PARTS),
        (published.VISION, "Is this safe?", "Is this safe?"),
        (published.QWEN, PARTS, "Is this\nsafe?"),
        (published.LLAMA3, PARTS, "Is this\nsafe?"),
        (published.MISTRAL, PARTS, "Is this\nsafe?"),
        (published.DEEPSEEK_R1_DISTILL, PARTS, "Is this\nsafe?"),
        (published.HERMES, PARTS, "Is this\nsafe?"),
    ],
)
def test_content_reaches_a_template_in_the_form_that_it_reads(
    template: str, content: Any, as_read: Any
) -> None:
    expected = transformers_prompt(template, [{"role": "user", "content": as_read}])
    assert "safe?" in expected
    assert our_prompt(template, [{"role": "user", "content": content}]) == expected


@pytest.mark.parametrize(
    ("given", "reads"),
    [(ContentFormat.STRING, "Is this\nsafe?"), (ContentFormat.OPENAI, PARTS)],
)
def test_whoever_serves_a_model_may_say_which_form_it_reads(
    given: ContentFormat, reads: Any
) -> None:
    template = ChatTemplate("{{ messages[0].content | tojson }}", content_format=given)
    messages = template_messages([{"role": "user", "content": PARTS}])
    assert json.loads(template.render(messages)) == reads


@pytest.mark.parametrize(
    "shown", ["m.content", "m.content + ''", "m.content | map(attribute='text') | join"]
)
def test_a_template_that_writes_no_calls_shows_what_they_gave(shown: str) -> None:
    """As those of models that know none do; a null fails in them, or is printed."""
    template = "{% for m in messages %}{{ m.role }} {{ SHOWN }};{% endfor %}".replace(
        "SHOWN", shown
    )
    sent = copy.deepcopy(CHAT)
    for message in sent[2:]:
        message["content"] = [{"type": "text", "text": message["content"]}]
    expected = "user List the root.;assistant ;tool etc;assistant It holds etc.;user Thank you.;"
    assert our_prompt(template, sent) == expected


def test_each_role_has_its_own_form() -> None:
    """As in a template that trims the system message and loops over the parts of all others."""
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}S:{{ m.content | trim }}"
        "{% else %}{% for p in m.content %}{{ m.role }}:{{ p.text }}{% endfor %}{% endif %};{% endfor %}"
    )
    for content in ("ab", [{"type": "text", "text": "ab"}]):
        messages = [{"role": role, "content": content} for role in ("system", "user", "assistant")]
        assert our_prompt(template, messages) == "S:ab;user:ab;assistant:ab;"


@pytest.mark.parametrize(
    "reads", ["m.content[0].text", "m.content if m.content is string else m.content[0].text"]
)
def test_a_template_that_reads_one_part_gets_all_in_one(reads: str) -> None:
    template = "{% for m in messages %}{{ " + reads + " }}{% endfor %}"
    for content in ("Is this\nsafe?", PARTS):
        assert our_prompt(template, [{"role": "user", "content": content}]) == "Is this\nsafe?"


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content", "thinking"])
def test_reasoning_is_replayed_by_whichever_name(name: str) -> None:
    messages = [CHAT[0], {"role": "assistant", "content": "ok", name: "because"}, CHAT[0]]
    expected = transformers_prompt(published.QWEN, messages)
    assert "<think>because</think>" in expected
    assert our_prompt(published.QWEN, messages) == expected


@pytest.mark.parametrize("read", ["reasoning", "reasoning_content", "thinking", "thought"])
def test_reasoning_is_read_by_whichever_name(read: str) -> None:
    """Solar-Open reads the first, Apriel the last."""
    template = "{% for m in messages %}{{ m.content }}{{ m." + read + " or '' }}{% endfor %}"
    for sent in ("reasoning", "reasoning_content", "thinking"):
        messages = [CHAT[0], {"role": "assistant", "content": "ok", sent: " because"}]
        assert our_prompt(template, messages).endswith("ok because")


def test_variables_reach_the_template_as_sent_and_contradictions_are_refused() -> None:
    template = ChatTemplate("{{ documents }};{{ tools }};{{ add_generation_prompt }};{{ mode }}")
    messages = template_messages(CHAT[:1])
    variables: dict[str, Any] = {
        "documents": [{"text": "d"}],
        "tools": TOOLS,
        "add_generation_prompt": False,
        "mode": "x",
    }
    expected = f"{[{'text': 'd'}]};{TOOLS};False;x"
    assert template.render(messages, template_kwargs=variables) == expected
    assert template.render(messages, tools=TOOLS, template_kwargs=variables) == expected
    assert template.render(messages) == "None;None;True;"
    for others in ({"tools": [{"name": "other"}]}, {"add_generation_prompt": True}):
        with pytest.raises(
            InvalidParameterError, match=r"holds (tools|add_generation_prompt), and so"
        ):
            template.render(messages, template_kwargs=variables, **others)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "RecursionError"),
        ("{{ messages[0].content.x.y }}", "has no attribute"),
        ("{{ raise_exception('no such role') }}", "no such role"),
        ("{{ 'a' + 1 }}", "TypeError"),
        ("{{ messages[0].content | format('a') }}", "TypeError"),
    ],
)
def test_what_goes_wrong_in_a_template_names_it(body: str, says: str) -> None:
    with pytest.raises(InvalidParameterError, match=says) as caught:
        ChatTemplate(body, origin="tokenizer_config.json").render(template_messages(CHAT[:1]))
    assert caught.value.parameter == "messages"
    assert "tokenizer_config.json" in str(caught.value)
