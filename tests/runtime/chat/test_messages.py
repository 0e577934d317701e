"""What a message may hold, and that all of it is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from octavo.chat import ChatTemplate, template_messages
from octavo.errors import InvalidParameterError, UnsupportedParameterError


def test_an_answer_that_comes_back_as_the_client_got_it() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    assert template_messages(
        [
            {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
            {"content": "hi", "role": "user", "name": "ann"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [call],
                "refusal": None,
                "audio": None,
                "function_call": None,
            },
            {"role": "tool", "tool_call_id": "c1", "content": "3"},
        ]
    ) == [
        {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "user", "content": "hi", "name": "ann"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "3", "tool_call_id": "c1"},
    ]


def test_keys_that_only_the_template_knows_stay_in_their_order() -> None:
    message: dict[str, Any] = {
        "z": 1,
        "role": "assistant",
        "content": "",
        "reasoning": "why",
        "tool_calls": [{"function": {"zz": 1, "arguments": {}, "name": "f"}, "x": 2}],
    }
    (found,) = template_messages([message])
    assert list(found)[:2] == ["z", "role"]
    assert found["reasoning"] == "why"
    (call,) = found["tool_calls"]
    assert call == {"type": "function", "x": 2, "function": message["tool_calls"][0]["function"]}
    assert list(call["function"]) == ["zz", "arguments", "name"]


@pytest.mark.parametrize("reasoning", [{}, {"reasoning": "hm"}], ids=["plain", "reasoning"])
def test_a_template_that_prints_whole_messages_shows_the_clients_order(
    reasoning: dict[str, str],
) -> None:
    function = {"arguments": {"b": 1, "a": 2}, "name": "f"}
    call = {"id": "c1", "type": "function", "function": function, "index": 0}
    messages: list[dict[str, Any]] = [
        {"content": "hi", "role": "user"},
        {**reasoning, "role": "assistant", "content": None, "tool_calls": [call]},
        {"tool_call_id": "c1", "content": "3", "role": "tool"},
    ]
    template = ChatTemplate("{% for m in messages %}{{ m | tojson }}\n{% endfor %}")
    lines = template.render(template_messages(messages)).splitlines()
    for line, message in zip(lines, messages, strict=True):
        shown = json.loads(line)
        # transformers' other names for reasoning stand around them, and in no plain message.
        own = {name: value for name, value in shown.items() if name in message}
        assert json.dumps(own) == json.dumps(message)
        assert shown.keys() - own.keys() == (
            {"thinking", "reasoning_content"} if "reasoning" in message else set()
        )


@pytest.mark.parametrize("refusal", [5, True, ["x"], {"a": 1}, {"content": "x"}])
def test_a_refusal_that_is_no_text_is_told_as_that(refusal: object) -> None:
    for content in (None, "x"):
        message = {"role": "assistant", "content": content, "refusal": refusal}
        with pytest.raises(
            InvalidParameterError, match=r"messages\[0\]\.refusal is .* a text"
        ) as told:
            template_messages([message])
        assert told.value.parameter == "messages[0].refusal"


def test_a_refusal_is_what_the_model_said() -> None:
    parts = [{"type": "text", "text": "Well."}, {"type": "refusal", "refusal": "I cannot."}]
    found = template_messages(
        [
            {"role": "assistant", "content": parts},
            {"role": "assistant", "content": None, "refusal": "No."},
            {"role": "assistant", "content": "Yes.", "refusal": None},
        ]
    )
    assert found[0]["content"] == [parts[0], {"type": "text", "text": "I cannot."}]
    assert [message["content"] for message in found[1:]] == ["No.", "Yes."]
    assert all("refusal" not in message for message in found)


@pytest.mark.parametrize(
    ("message", "parameter", "kind"),
    [
        ({"role": "robot", "content": "x"}, "messages[1].role", InvalidParameterError),
        ({"content": "x"}, "messages[1].role", InvalidParameterError),
        ({"role": "user", "content": None}, "messages[1].content", InvalidParameterError),
        ({"role": "user"}, "messages[1].content", InvalidParameterError),
        ({"role": "user", "content": 5}, "messages[1].content", InvalidParameterError),
        (
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "http://h/x"}}],
            },
            "messages[1].content[0]",
            UnsupportedParameterError,
        ),
        (
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "input_audio"}]},
            "messages[1].content[1]",
            UnsupportedParameterError,
        ),
        ({"role": "user", "content": ["a"]}, "messages[1].content[0]", UnsupportedParameterError),
        (
            {"role": "user", "content": "x", "function_call": {"name": "f", "arguments": "{}"}},
            "messages[1].function_call",
            InvalidParameterError,
        ),
        (
            {"role": "assistant", "function_call": {"name": "f"}, "tool_calls": [{}]},
            "messages[1].function_call",
            InvalidParameterError,
        ),
        (
            {"role": "assistant", "function_call": {"name": 5}},
            "messages[1].function_call",
            InvalidParameterError,
        ),
        (
            {"role": "assistant", "function_call": {"name": "f", "arguments": 5}},
            "messages[1].function_call.arguments",
            InvalidParameterError,
        ),
        (
            {"role": "function", "name": "f", "content": "1"},
            "messages[1].name",
            InvalidParameterError,
        ),
        (
            {"role": "assistant", "audio": {"id": "a"}},
            "messages[1].audio",
            UnsupportedParameterError,
        ),
        ({"role": "assistant", "tool_calls": "f"}, "messages[1].tool_calls", InvalidParameterError),
        (
            {"role": "assistant", "tool_calls": [{}]},
            "messages[1].tool_calls[0]",
            InvalidParameterError,
        ),
        *[
            (
                {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": no}}]},
                "messages[1].tool_calls[0].function.arguments",
                InvalidParameterError,
            )
            for no in (None, 5, True, [1], b"{}")
        ],
        (
            {"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]},
            "messages[1].tool_calls[0].function.name",
            InvalidParameterError,
        ),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_place(
    message: dict[str, Any], parameter: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind) as caught:
        template_messages([{"role": "user", "content": "hi"}, message])
    assert caught.value.parameter == parameter  # type: ignore[attr-defined]
    assert parameter in str(caught.value)


@pytest.mark.parametrize("given", [{}, {"arguments": ""}, {"arguments": " \n"}], ids=str)
def test_a_call_without_arguments_has_an_empty_object(given: dict[str, str]) -> None:
    call = {"function": {"name": "f", **given}}
    (message,) = template_messages([{"role": "assistant", "tool_calls": [call]}])
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}


def test_functions_are_tools_with_an_id_of_their_own() -> None:
    """Nine letters and digits, as Mistral's templates want them; and each result has that of its call."""

    def call(name: str) -> dict[str, Any]:
        return {"role": "assistant", "content": None, "function_call": {"name": name}}

    def told(name: str) -> dict[str, Any]:
        return {"role": "function", "name": name, "content": None}

    found = template_messages([call("f"), told("f"), call("g"), told("g"), call("f"), told("f")])
    assert not any("function_call" in message for message in found)
    for asked, answer in zip(found[::2], found[1::2], strict=True):
        (made,) = asked["tool_calls"]
        assert made["function"] == {"name": answer["name"], "arguments": "{}"}
        assert (made["id"], answer["role"], answer["content"]) == (
            answer["tool_call_id"],
            "tool",
            "",
        )
        assert made["id"].isalnum()
        assert len(made["id"]) == 9
    assert len({message["tool_call_id"] for message in found[1::2]}) == 3


def test_no_messages_are_no_conversation() -> None:
    with pytest.raises(InvalidParameterError, match="at least one"):
        template_messages([])


def calling(*call_ids: str | None) -> dict[str, Any]:
    calls = [{"id": call_id, "function": {"name": "f"}} for call_id in call_ids]
    return {"role": "assistant", "tool_calls": calls}


def result(call_id: str | None) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": "1"}


@pytest.mark.parametrize(
    ("messages", "parameter"),
    [
        ([result("a")], "messages[0]"),
        ([result(None), calling("a")], "messages[0]"),
        ([{"role": "assistant", "content": "x", "tool_calls": []}, result("a")], "messages[1]"),
        ([calling("a"), result("a"), result("b")], "messages[2].tool_call_id"),
        ([calling("a"), result("b"), calling("b")], "messages[1].tool_call_id"),
    ],
)
def test_a_result_that_answers_no_call_is_refused(
    messages: list[dict[str, Any]], parameter: str
) -> None:
    with pytest.raises(InvalidParameterError, match="the call as well") as caught:
        template_messages(messages)
    assert caught.value.parameter == parameter


@pytest.mark.parametrize(
    "messages",
    [
        [calling("a", "b"), result("b"), result("a")],
        [calling("a"), {"role": "user", "content": "x"}, result("a")],
        [calling(None), result("a")],
        [calling(None), result(None)],
        [calling("a"), result(None)],
    ],
)
def test_a_result_may_answer_any_call_before_it(messages: list[dict[str, Any]]) -> None:
    assert len(template_messages(messages)) == len(messages)
