"""Nothing of a conversation is lost on its way into the prompt."""

from __future__ import annotations

from typing import Any

import pytest

from octavo.chat import ChatTemplate, ChatTemplates, render_chat
from octavo.errors import InvalidParameterError, UnsupportedParameterError
from tests.support.runtime import published_templates as published

USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "abcdefgh1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "abcdefgh1", "content": "42"}
SYSTEM = {"role": "system", "content": "Be brief."}
CHATML = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"


def render(template: str, messages: list[dict[str, Any]], **options: Any) -> str:
    variables = {"bos_token": "<bos>", "eos_token": "<eos>"}
    one = ChatTemplate(template, variables)
    return render_chat(ChatTemplates({"default": one}), messages, **options)


@pytest.mark.parametrize(
    ("template", "messages", "options", "parameter"),
    [
        ("Hello", [USER], {}, "messages[0].content"),
        (
            "{% for m in messages %}{% for p in m.content %}{{ p.body }}{% endfor %}{% endfor %}",
            [USER],
            {},
            "messages[0].content",
        ),
        (
            "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}",
            [{"role": "system", "content": "Be brief."}, USER],
            {},
            "messages[0].content",
        ),
        (CHATML, [USER], {"tools": [TOOL]}, "tools"),
        (CHATML, [USER], {"template_kwargs": {"tools": [TOOL]}}, "tools"),
        (
            CHATML,
            [USER],
            {"template_kwargs": {"documents": [{"text": "d"}]}},
            "chat_template_kwargs.documents",
        ),
        (
            CHATML,
            [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}, USER],
            {},
            "messages[1].tool_calls",
        ),
        (
            # Of a message with text this template shows the text alone.
            published.DEEPSEEK_R1_DISTILL,
            [USER, {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]}],
            {},
            "messages[1].tool_calls",
        ),
        (
            "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}",
            [USER, CALLING, RESULT],
            {},
            "messages[2].content",
        ),
        (
            # The last one alone shows.
            published.DEEPSEEK_R1_DISTILL,
            [
                {"role": "system", "content": "Answer in French."},
                {"role": "system", "content": "Be brief, and be polite."},
                USER,
            ],
            {},
            "messages[0].content",
        ),
        (
            "{% for m in messages if m.role != 'tool' or m == messages[-1] %}{{ m.content }}{% endfor %}",
            [USER, CALLING, {"role": "tool", "content": "41"}, {"role": "tool", "content": "42"}],
            {},
            "messages[2].content",
        ),
        (
            # The user's turn shows the first one, and no turn the second.
            published.MISTRAL_V3,
            [SYSTEM, SYSTEM | {"content": "Be polite."}, USER, CALLING, RESULT],
            {},
            "messages[1].content",
        ),
    ],
)
def test_what_the_prompt_does_not_depend_on_is_refused(
    template: str, messages: list[dict[str, Any]], options: dict[str, Any], parameter: str
) -> None:
    with pytest.raises(UnsupportedParameterError, match="puts nothing of") as caught:
        render(template, messages, **options)
    assert caught.value.parameter == parameter


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
        "{% for m in messages %}{{ m.content | tojson }}{% endfor %}",
        "{% for m in messages %}{{ m.content | replace('i', '') }}{% endfor %}",
        "{{ messages[-1].content }}",
    ],
)
def test_a_text_may_come_out_changed(template: str) -> None:
    assert render(template, [{"role": "user", "content": "the first hi"}, USER])


@pytest.mark.parametrize(
    "behind",
    [[CALLING, RESULT], [{"role": "assistant", "content": "It is"}]],
    ids=["tool", "prefill"],
)
def test_a_system_message_may_show_in_the_users_turn_alone(behind: list[dict[str, Any]]) -> None:
    assert "Be brief." in render(published.MISTRAL_V3, [SYSTEM, USER])
    prompt = render(published.MISTRAL_V3, [SYSTEM, USER, *behind])
    assert "[INST] hi[/INST]" in prompt
    assert "Be brief." not in prompt  # as the model was trained


def test_each_of_many_calls_is_looked_for_in_one_more_rendering() -> None:
    """Long conversations of agents are made of calls: their cost must not grow with their square."""
    template = ChatTemplate(published.QWEN)
    history: list[dict[str, Any]] = [USER]
    for number in range(40):
        call = {"type": "function", "function": {"name": f"f{number}", "arguments": "{}"}}
        history += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "0"},
        ]
    count = 0
    original = template.render

    def counting(*args: Any, **kwargs: Any) -> str:
        nonlocal count
        count += 1
        return original(*args, **kwargs)

    template.render = counting  # type: ignore[method-assign]
    render_chat(ChatTemplates({"default": template}), history, tools=[TOOL])
    assert count <= 6


FIRST_CALL = """{% for m in messages %}{{ m.content or '' }}
{%- if m.tool_calls %}{{ m.tool_calls[0] | tojson }}{% endif %}{% endfor %}"""


def test_each_call_of_a_message_must_show() -> None:
    """gpt-oss' and GigaChat's templates write the first one."""
    calls = [CALL, {**CALL, "id": "abcdefgh2"}]
    with pytest.raises(
        UnsupportedParameterError, match="Send each in a message of its own"
    ) as error:
        render(FIRST_CALL, [USER, {**CALLING, "tool_calls": calls}, RESULT])
    assert error.value.parameter == "messages[1].tool_calls[1]"
    alone = [message for call in calls for message in ({**CALLING, "tool_calls": [call]}, RESULT)]
    assert render(FIRST_CALL, [USER, *alone]).count("abcdefgh") == 2


@pytest.mark.parametrize(
    ("template", "content", "advice"),
    [
        (published.DEEPSEEK_R1_DISTILL, "Let me see.", "Send them without content."),
        (CHATML, "Let me see.", "Write them into the message's content."),
        # This one adds the content to a text (Granite 3.3): that it is null is not what is wrong.
        (
            "{% for m in messages %}{{ m.role + m.content }}{% endfor %}",
            None,
            "Write them into the message's content.",
        ),
    ],
)
def test_lost_calls_are_told_with_what_helps(
    template: str, content: str | None, advice: str
) -> None:
    with pytest.raises(UnsupportedParameterError, match=advice) as error:
        render(template, [USER, {**CALLING, "content": content}, RESULT])
    assert error.value.parameter == "messages[1].tool_calls"


def test_tools_take_the_template_that_was_made_for_them() -> None:
    templates = ChatTemplates(
        {
            "default": ChatTemplate("D{{ messages[0].content }}"),
            "tool_use": ChatTemplate("T{{ tools | tojson }}{{ messages[0].content }}"),
        }
    )
    assert render_chat(templates, [USER]) == "Dhi"
    ordered = {"function": {"parameters": {"b": 1, "a": None}, "name": "f"}, "type": "function"}
    expected = (
        'T[{"function": {"parameters": {"b": 1, "a": null}, "name": "f"}, "type": "function"}]hi'
    )
    assert render_chat(templates, [USER], tools=[ordered]) == expected
    assert render_chat(templates, [USER], template_kwargs={"tools": [ordered]}) == expected
    with pytest.raises(InvalidParameterError, match="rag and no default"):
        render_chat(ChatTemplates({}, known=["rag"]), [USER])


ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{{ m.content }}{% endfor %}"
)


@pytest.mark.parametrize(("num_good", "num_behind"), [(1, 0), (0, 3), (2, 5), (7, 1)])
def test_a_template_that_refuses_a_conversation_says_from_which_message_on(
    num_good: int, num_behind: int
) -> None:
    roles = [("user", "assistant")[number % 2] for number in range(num_good)]
    wrong = "user" if num_good % 2 else "assistant"
    behind = [("user", "assistant")[number % 2] for number in range(num_behind)]
    messages = [{"role": role, "content": "hi"} for role in [*roles, wrong, *behind]]
    with pytest.raises(InvalidParameterError, match="roles must alternate") as caught:
        render(ALTERNATING, messages)
    assert caught.value.parameter == f"messages[{num_good}]"
    assert str(caught.value).startswith(f"At messages[{num_good}]: ")


THINKER = "{{ messages[0].content }}{% if not enable_thinking %}<think></think>{% endif %}"
EFFORT = "{{ messages[0].content }} Reasoning: {{ reasoning_effort or 'medium' }}"


@pytest.mark.parametrize(
    ("template", "variables", "shows"),
    [
        (THINKER, {"enable_thinking": True}, "hi"),
        (THINKER, {"reasoning_effort": "none"}, "hi<think></think>"),
        (THINKER, {"reasoning_effort": "none", "enable_thinking": True}, "hi"),
        (EFFORT, {"reasoning_effort": "high"}, "hi Reasoning: high"),
        (EFFORT, {"reasoning_effort": "none"}, "hi Reasoning: none"),
    ],
)
def test_variables_reach_the_template(template: str, variables: dict[str, Any], shows: str) -> None:
    assert render(template, [USER], template_kwargs=variables) == shows


@pytest.mark.parametrize(
    ("template", "variables", "parameter"),
    [
        (EFFORT, {"enable_thinking": False}, "chat_template_kwargs"),
        (THINKER, {"enable_thinking": False, "mood": "good"}, "chat_template_kwargs"),
        (THINKER, {"reasoning_effort": "high"}, "reasoning_effort"),
        (published.MISTRAL_V3, {"reasoning_effort": "none"}, "reasoning_effort"),
    ],
)
def test_a_variable_that_the_template_does_not_read_is_refused(
    template: str, variables: dict[str, Any], parameter: str
) -> None:
    with pytest.raises(UnsupportedParameterError, match="does not read") as caught:
        render(template, [USER], template_kwargs=variables)
    assert caught.value.parameter == parameter
