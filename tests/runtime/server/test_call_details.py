"""Formats of tool calls, each by itself: what is no call, what a spoilt one leaves, ids, nested arguments."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from octavo.engine.requests.marked_text import MarkedText
from octavo.server.openai.parsing.formats import CALL_FORMATS, Tools
from octavo.server.openai.parsing.schema_types import cast
from octavo.server.openai.parsing.tool_calls import ToolCallParser
from tests.support.runtime.cut_text import TEXT_OF_F, one_by_one, parse
from tests.support.runtime.read_calls import Call, read_with
from tests.support.runtime.written_calls import WRITERS, Calls, kimi_k2


@pytest.mark.parametrize(
    ("name", "text", "content", "calls"),
    [
        (
            "llama3_json",
            '{"name": "f", "parameters": {}, {"name": "f", "parameters": {x}}',
            "x}}",
            [("f", {}), ("f?", {"": "{"})],
        ),
        (
            "llama3_json",
            '{"name": "f", "parameters": {}, {"name": "f", "parameters": {"a": 1}};',
            "",
            [("f", {}), ("f", {"a": 1})],
        ),
        ("llama3_json", '{"name": "f", "parameters": {}, "id": {x}', "{x}", [("f", {})]),
        (
            "gemma4",
            '<|tool_call>call:f{text:<|"|>Oslo<|"|>! Sorry',
            "! Sorry",
            [("f?", {"": '{"text": "Oslo"'})],
        ),
    ],
)
def test_what_stands_behind_a_spoilt_call_is_kept(
    name: str, text: str, content: str, calls: Calls
) -> None:
    form = CALL_FORMATS[name]
    for at in range(len(text)):
        pieces = (MarkedText(text[:at]), MarkedText(text[at:]))
        assert parse(form, TEXT_OF_F, *pieces) == (content, calls)
    assert parse(form, TEXT_OF_F, *one_by_one(MarkedText(text))) == (content, calls)


def test_no_two_calls_have_the_same_id() -> None:
    """Those that a model writes itself, in one section or several, and those of the conversation."""
    call = kimi_k2([("f", {})])
    text = call + call.replace(":0", ":3") + kimi_k2([("f", {}), ("f", {})])
    for pieces in ([MarkedText(text)], one_by_one(MarkedText(text))):
        parser = ToolCallParser(CALL_FORMATS["kimi_k2"], TEXT_OF_F, known_ids=["functions.f:1"])
        ids = [one.id for one in read_with(parser, *pieces) if isinstance(one, Call)]
        assert ids == [f"functions.f:{number}" for number in (0, 3, 4, 5)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[f(a='x\ny', text='it\\'s')]",
            {"a": "x\ny", "text": "it's"},
        ),  # as LFM2's template has it
        ('[f(a={"b": [true, null, -1.5]})]', {"a": {"b": [True, None, -1.5]}}),
        ("[f(a=(1, 'b'))]", {"a": [1, "b"]}),
        ("[f(a=1, a=2)]", None),
        ("[f(1)]", None),
        ("[f(**{'a': 1})]", None),
        ("[f(a=open('x'))]", None),
        ("[f(a=f'{x}')]", None),
        ("[f(a=1e999)]", None),
        ("[f(a=1), other(a=1)]", None),
        (f"[f(a={'[' * 5000}{']' * 5000})]", None),
    ],
)
def test_pythons_notation_is_literals(text: str, expected: dict[str, Any] | None) -> None:
    form = CALL_FORMATS["pythonic"]
    for pieces in ([MarkedText(text)], one_by_one(MarkedText(text))):
        content, found = parse(form, {"f": None}, *pieces)
        assert found == ([] if expected is None else [("f", expected)])
        assert content == (text if expected is None else "")


@pytest.mark.parametrize(
    ("name", "written", "expected"),
    [
        ("minicpm5", "None", None),
        ("minicpm5", "[1, 'a']", [1, "a"]),
        ("minicpm5", "<![CDATA[12]]>", "12"),
        ("minicpm5", "Oslo", "Oslo"),
        ("minimax_m2", "12", "12"),
        ("minimax_m2", '{"a": 1}', {"a": 1}),
        ("minimax_m3", "]<]minimax[>[<item>a]<]minimax[>[</item>", ["a"]),
        (
            "minimax_m3",
            "]<]minimax[>[<a>]<]minimax[>[<b>c]<]minimax[>[</b>]<]minimax[>[</a>",
            {"a": {"b": "c"}},
        ),
    ],
)
def test_values_that_no_schema_types(name: str, written: str, expected: object) -> None:
    form, write = WRITERS[name]
    text = write([("f", {"a": "octavo"})]).replace("octavo", written)
    for pieces in ([MarkedText(text)], one_by_one(MarkedText(text))):
        assert parse(form, {"f": None}, *pieces) == ("", [("f", {"a": expected})])


def test_nested_elements_are_what_the_schema_says() -> None:
    form, write = WRITERS["minimax_m3"]
    given = {"a": {"n": 1, "list": [{"b": True}, {"b": False}], "none": []}, "text": "1"}
    item = {"type": "object", "properties": {"b": {"type": "boolean"}}}
    nested = {
        "n": {"type": "integer"},
        "list": {"type": "array", "items": item},
        "none": {"type": "array"},
    }
    properties = {"a": {"type": "object", "properties": nested}, "text": {"type": "string"}}
    text = MarkedText(write([("f", given)]))
    for at in range(len(text) + 1):
        assert parse(form, {"f": {"properties": properties}}, text[:at], text[at:]) == (
            "",
            [("f", given)],
        )


_PYTHONS = ("olmo3", "pythonic")
_NUMBERS = {"type": "array", "items": {"type": "number"}}
_SIZED = {
    "f": {"type": "object", "properties": {"number": {"type": "number"}, "list": _NUMBERS}},
}


@pytest.mark.parametrize("name", [name for name in WRITERS if not name.startswith(_PYTHONS)])
def test_a_number_is_told_as_it_is_written_whatever_its_size(name: str) -> None:
    form, write = WRITERS[name]
    stand_in = 1234567
    text = write([("f", {"number": stand_in, "list": [stand_in]})])
    for number in ("2E087115871484", "-1e400", "-0", "9" * 5000, "0.10", "1E+2"):
        parser = ToolCallParser(form, _SIZED)
        (call,) = read_with(parser, MarkedText(text.replace(str(stand_in), number)))
        assert isinstance(call, Call)
        told = re.sub(r"\s", "", call.arguments)
        assert told in (
            f'{{"number":{number},"list":[{number}]}}',
            f'{{"list":[{number}],"number":{number}}}',
        )


@pytest.mark.parametrize("text", ["01e400", "1e400.5", "-", "1e400x", '"a" 1e400', "[1e400", "NaN"])
def test_what_is_no_number_of_jsons_is_a_text(text: str) -> None:
    assert cast(text, {"type": ["number", "array"]}) == json.dumps(text)


_OF_F: Tools = {"f": {"properties": {"text": {"type": "string"}, "n": {"type": "integer"}}}}
_CODER = "<tool_call>\n<function=f>\n{}</function>\n</tool_call>"
_M2 = "<minimax:tool_call>{}</minimax:tool_call>"
_DSML = (
    '<｜DSML｜invoke name="f">\n<｜DSML｜parameter name="text">{}\n</｜DSML｜invoke>\n'
    "</｜DSML｜tool_calls>"
)
_INVOKES = """<invoke name='f'><parameter name="text">a</parameter></invoke>
<invoke name=f><parameter name=n>1</parameter></invoke>"""
_LIST = '[{"name": "f", "arguments": {"text": "a"}}, {"name": "f", "parameters": {"n": 1}}]'
_TWO: Calls = [("f", {"text": "a"}), ("f", {"n": 1})]
_BOTH: Calls = [("f", {"text": "a", "n": 1})]


@pytest.mark.parametrize(
    ("name", "text", "calls"),
    [
        # A value without its end.
        (
            "qwen3_coder",
            _CODER.format("<parameter=text>\na\n<parameter=n>\n1\n</parameter>\n"),
            _BOTH,
        ),
        ("qwen3_coder", _CODER.format("<parameter=n>\n1\n<parameter=text>\na\n"), _BOTH),
        (
            "qwen3_coder",
            _CODER.format("<parameter=text>\na\n</function>\n<parameter=x>\n</parameter>\n"),
            [("f", {"text": "a\n</function>\n<parameter=x>"})],
        ),
        (
            "minimax_m2",
            _M2.format('<invoke name="f"><parameter name="text">a<parameter name="n">1\n</invoke>'),
            _BOTH,
        ),
        (
            "deepseek_v4",
            f"<｜DSML｜toolcalls>{_DSML.format('a</｜DSML｜parameter>')}",
            [("f", {"text": "a"})],
        ),
        ("deepseek_v4", f"<｜DSML｜tool>{_DSML.format('a')}", [("f", {"text": "a\n"})]),
        # Other quotes, and no tags around all.
        (
            "minimax_m2",
            _M2.format(_INVOKES),
            _TWO,
        ),
        (
            "minimax_m2",
            _INVOKES,
            _TWO,
        ),
        ("minimax_m2", '<invoke name="g"><parameter name="n">1</parameter></invoke>', []),
        *(
            ("llama3_json", text, _TWO)
            for text in (_LIST, _LIST[1:-1], f"<|python_tag|>{_LIST[1:-1]}")
        ),
        *(
            ("xlam", text, _TWO)
            for text in (
                f"```\n{_LIST}\n```",
                f"```json {_LIST}```",
                f"[TOOL_CALLS] {_LIST}",
                f"<tool_call>{_LIST}</tool_call>",
            )
        ),
        ("xlam", '```\n[{"a": 1}]\n``` [TOOL_CALLS] [1]', []),
    ],
)
def test_spellings_that_vllm_takes(name: str, text: str, calls: Calls) -> None:
    form = CALL_FORMATS[name]
    expected = ("" if calls else text, calls)
    for at in range(len(text) + 1):
        assert parse(form, _OF_F, MarkedText(text[:at]), MarkedText(text[at:])) == expected, at
    assert parse(form, _OF_F, *one_by_one(MarkedText(text))) == expected


_HALVES = [
    name for name in WRITERS if not name.startswith((*_PYTHONS, "openai", "muse", "inkling"))
]


@pytest.mark.parametrize("name", _HALVES)
def test_what_max_tokens_leaves_of_a_next_call_is_no_text(name: str) -> None:
    """From nothing to all of it that does not tell the function yet."""
    form, write = WRITERS[name]
    text = write([("f", {"text": "a"}), ("f", {"text": "octavo"})])
    first = len(write([("f", {"text": "a"})]))
    for at in range(len(text)):
        cut = MarkedText(text[:at])
        content, calls = parse(form, _OF_F, cut, is_cut=True)
        if calls and not calls[0][0].endswith("?"):
            assert not content, at
            assert at < first or calls[0] == ("f", {"text": "a"})
            assert parse(form, _OF_F, *one_by_one(cut), is_cut=True) == (content, calls)
    # What ended by itself is told as it is, and so is what is none of a call.
    whole = write([("f", {"text": "a"})])
    for behind in ("So <", "<!"):
        told = parse(form, _OF_F, MarkedText(f"{whole}\n{behind}"), is_cut=True)
        assert told == (behind, [("f", {"text": "a"})])
    if form.has_tags and not form.heads:
        opening = form.openings[0]
        assert parse(form, _OF_F, MarkedText(f"{whole}\n{opening}"))[0] == opening
