"""Calls as models write them: for each format of tool calls what puts some into its text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from octavo.server.openai.parsing.formats import CALL_FORMATS, CallFormat, TaggedJson

Calls = Sequence[tuple[str, dict[str, Any]]]
Writer = Callable[[Calls], str]


def as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def bare(value: object) -> str:
    """A text as it is."""
    return value if isinstance(value, str) else as_json(value)


def objects(calls: Calls, arguments: str = "arguments", name: str = "name") -> list[str]:
    return [as_json({name: called, arguments: given}) for called, given in calls]


def tagged_json(opening: str, closing: str, calls: Calls, arguments: str = "arguments") -> str:
    return "\n".join(f"{opening}\n{one}\n{closing}" for one in objects(calls, arguments))


def tagged_list(opening: str, closing: str, calls: Calls) -> str:
    return f"{opening}[{', '.join(objects(calls))}]{closing}"


def llama3_json(calls: Calls) -> str:
    return "; ".join(objects(calls, "parameters"))


def mistral(mark: str, calls: Calls) -> str:
    return "".join(f"[TOOL_CALLS]{name}{mark}{as_json(given)}" for name, given in calls)


def qwen3_coder(opening: str, closing: str, calls: Calls) -> str:
    return "\n".join(
        f"{opening}<function={name}>\n"
        + "".join(
            f"<parameter={key}>\n{bare(value)}\n</parameter>\n" for key, value in given.items()
        )
        + f"</function>{closing}"
        for name, given in calls
    )


def glm45(between: str, calls: Calls, mark: str = "") -> str:
    def element(tag: str, inside: str) -> str:
        return f"<{mark}{tag}>{inside}</{mark}{tag}>"

    def argument(key: str, value: object) -> str:
        return between.join((element("arg_key", key), element("arg_value", bare(value)), ""))

    return between.join(
        element(
            "tool_call",
            name + between + "".join(argument(key, value) for key, value in given.items()),
        )
        for name, given in calls
    )


def _gemma_value(value: object, quote: str) -> str:
    if isinstance(value, str):
        return f"{quote}{value}{quote}"
    if isinstance(value, dict):
        members = (f"{quote}{key}{quote}:{_gemma_value(one, quote)}" for key, one in value.items())
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_gemma_value(one, quote) for one in value) + "]"
    return str(value) if value is None else as_json(value)


def gemma(opening: str, closing: str, quote: str, calls: Calls) -> str:
    return "".join(
        f"{opening}call:{name}{{"
        + ",".join(f"{key}:{_gemma_value(value, quote)}" for key, value in given.items())
        + f"}}{closing}"
        for name, given in calls
    )


def kimi_k2(calls: Calls) -> str:
    inside = "".join(
        f"<|tool_call_begin|>functions.{name}:{number}<|tool_call_argument_begin|>{as_json(given)}<|tool_call_end|>"
        for number, (name, given) in enumerate(calls)
    )
    return f"<|tool_calls_section_begin|>{inside}<|tool_calls_section_end|>"


def harmony(calls: Calls) -> str:
    return "<|start|>assistant".join(
        f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{as_json(given)}<|call|>"
        for name, given in calls
    )


def harmony_role(calls: Calls) -> str:
    return "".join(
        f"<|start|>assistant to=functions.{name}<|channel|>commentary json<|message|>{as_json(given)}<|call|>"
        for name, given in calls
    )


def python_call(call: tuple[str, dict[str, Any]]) -> str:
    name, given = call
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})"


def pythonic(calls: Calls) -> str:
    return f"[{', '.join(map(python_call, calls))}]"


def deepseek_v3(calls: Calls) -> str:
    inside = "\n".join(
        f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{as_json(given)}\n```<｜tool▁call▁end｜>"
        for name, given in calls
    )
    return f"<｜tool▁calls▁begin｜>{inside}<｜tool▁calls▁end｜>"


def deepseek_v31(calls: Calls) -> str:
    inside = "".join(
        f"<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{as_json(given)}<｜tool▁call▁end｜>"
        for name, given in calls
    )
    return f"<｜tool▁calls▁begin｜>{inside}<｜tool▁calls▁end｜>"


def dsml(mark: str, section: str, calls: Calls) -> str:
    def argument(key: str, value: object) -> str:
        is_text = "true" if isinstance(value, str) else "false"
        return f'<{mark}parameter name="{key}" string="{is_text}">{bare(value)}</{mark}parameter>'

    inside = "\n".join(
        f'<{mark}invoke name="{name}">\n'
        + "\n".join(argument(key, value) for key, value in given.items())
        + f"\n</{mark}invoke>"
        for name, given in calls
    )
    return f"<{mark}{section}>\n{inside}\n</{mark}{section}>"


def minimax_m1(calls: Calls) -> str:
    return "<tool_calls>\n" + "\n".join(objects(calls)) + "\n</tool_calls>"


def minimax_m2(section: str, calls: Calls) -> str:
    inside = "".join(
        f'<invoke name="{name}">\n'
        + "".join(
            f'<parameter name="{key}">{bare(value)}</parameter>\n' for key, value in given.items()
        )
        + "</invoke>\n"
        for name, given in calls
    )
    return f"<{section}>\n{inside}</{section}>"


def muse_glimmer(calls: Calls) -> str:
    return "<|eom|><|start|>assistant".join(
        f' to={name}<|message|><atem:function_calls>\n<atem:invoke name="{name}">\n'
        + "".join(
            f'<atem:parameter name="{key}">{bare(value)}</atem:parameter>\n'
            for key, value in given.items()
        )
        + "</atem:invoke>\n</atem:function_calls>"
        for name, given in calls
    )


def muse_glimmer_start(calls: Calls) -> str:
    return f"<|start|>assistant{muse_glimmer(calls)}<|eot|>"


def step3(calls: Calls) -> str:
    inside = "\n".join(
        f'<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name="{name}">\n'
        + "".join(
            f'<steptml:parameter name="{key}">{bare(value)}</steptml:parameter>\n'
            for key, value in given.items()
        )
        + "</steptml:invoke><｜tool_call_end｜>"
        for name, given in calls
    )
    return f"<｜tool_calls_begin｜>\n{inside}\n<｜tool_calls_end｜>"


def k2_horizon(calls: Calls) -> str:
    return f"<ifm|tool_calls>\n{glm45(chr(10), calls, 'ifm|')}\n</ifm|tool_calls>"


def olmo3(calls: Calls) -> str:
    lines = "\n".join(map(python_call, calls))
    return f"<function_calls>{lines}</function_calls>"


def cohere(calls: Calls) -> str:
    inside = ",\n    ".join(
        as_json({"tool_call_id": str(number), "tool_name": name, "parameters": given})
        for number, (name, given) in enumerate(calls)
    )
    return f"<|START_ACTION|>[\n    {inside}\n]<|END_ACTION|>"


def apertus(calls: Calls) -> str:
    inside = ", ".join(as_json({name: given}) for name, given in calls)
    return f"<|tools_prefix|>[{inside}]<|tools_suffix|>"


def kimi_k3(calls: Calls) -> str:
    def element(tag: str, inside: str, **attributes: str) -> str:
        head = "".join(f' {name}="{value}"' for name, value in attributes.items())
        return f"<|open|>{tag}{head}<|sep|>{inside}<|close|>{tag}<|sep|>"

    def argument(key: str, value: object) -> str:
        kinds = {str: "string", bool: "boolean", int: "number", float: "number", list: "array"}
        kind = "null" if value is None else kinds.get(type(value), "object")
        return element("argument", bare(value), key=key, type=kind)

    inside = "".join(
        element(
            "call",
            "".join(argument(key, value) for key, value in given.items()),
            tool=name,
            index=str(number),
        )
        for number, (name, given) in enumerate(calls, 1)
    )
    return element("tools", inside)


def kimi_k3_json(calls: Calls) -> str:
    return "<|open|>tools<|sep|>{}<|close|>tools<|sep|>".format(
        "".join(
            f'<|open|>call tool="{name}" index="{number}"<|sep|><|open|>json type="object"<|sep|>'
            f"{as_json(given)}<|close|>json<|sep|><|close|>call<|sep|>"
            for number, (name, given) in enumerate(calls, 1)
        )
    )


def hy_v3(calls: Calls) -> str:
    inside = "".join(
        f"<tool_call>{name}<tool_sep>\n"
        + "".join(
            f"<arg_key>{key}</arg_key>\n<arg_value>{bare(value)}</arg_value>\n"
            for key, value in given.items()
        )
        + "</tool_call>\n"
        for name, given in calls
    )
    return f"<tool_calls>\n{inside}</tool_calls>"


def minimax_m3(calls: Calls) -> str:
    mark = "]<]minimax[>["

    def element(name: str, value: object) -> str:
        if isinstance(value, dict):
            inside = "".join(element(key, one) for key, one in value.items())
        elif isinstance(value, list):
            inside = "".join(element("item", one) for one in value)
        else:
            inside = bare(value)
        return f"{mark}<{name}>{inside}{mark}</{name}>"

    inside = "".join(
        f'{mark}<invoke name="{name}">'
        + "".join(element(key, value) for key, value in given.items())
        + f"{mark}</invoke>\n"
        for name, given in calls
    )
    return f"{mark}<tool_call>\n{inside}{mark}</tool_call>"


def minicpm5(calls: Calls) -> str:
    def argument(key: str, value: object) -> str:
        is_text = isinstance(value, str)
        shown = (
            f"<![CDATA[{value}]]>" if is_text and re.search(r"[<&\n]", str(value)) else str(value)
        )
        return f'<param name="{key}">{shown}</param>'

    return "\n".join(
        f'<function name="{name}">'
        + "".join(argument(key, value) for key, value in given.items())
        + "</function>"
        for name, given in calls
    )


def plamo3(calls: Calls) -> str:
    def element(name: str, inside: str) -> str:
        return f"<|plamo:begin_tool_{name}:plamo|>{inside}<|plamo:end_tool_{name}:plamo|>"

    def one(name: str, given: dict[str, Any]) -> str:
        arguments = f"<|plamo:constrain|>json<|plamo:msg|>{as_json(given)}"
        return element("request", element("name", name) + element("arguments", arguments))

    return element("requests", "".join(one(name, given) for name, given in calls))


def inkling(calls: Calls) -> str:
    return "".join(
        f"<|message_model|>{name}<|content_invoke_tool_json|>"
        f'{{"name":{as_json(name)},"args":{as_json(given)}}}<|end_message|>'
        for name, given in calls
    )


def functionary(calls: Calls) -> str:
    return "".join(f"<function={name}>{as_json(given)}</function>" for name, given in calls)


def solar_open(calls: Calls) -> str:
    inside = "".join(
        f"<|tool_call:begin|>a1b2c3d4e{number}<|tool_call:name|>{name}<|tool_call:args|>{as_json(given)}"
        "<|tool_call:end|>"
        for number, (name, given) in enumerate(calls)
    )
    return f"<|tool_calls|>{inside}<|calls|>"


def gigachat3(calls: Calls) -> str:
    """As many messages of the role as there are calls."""
    return "".join(f"function call<|role_sep|>\n{one}<|message_sep|>\n\n" for one in objects(calls))


def around(opening: str, write: Writer, closing: str, calls: Calls) -> str:
    return f"{opening}{write(calls)}{closing}"


WRITERS: dict[str, tuple[CallFormat, Writer]] = {
    "tagged": (TaggedJson("<call|", "|call>"), partial(tagged_json, "<call|", "|call>")),
    **{
        f"{name} {variant}".strip(): (CALL_FORMATS[name], write)
        for name, variant, write in (
            ("apertus", "", apertus),
            ("cohere_command3", "", cohere),
            ("deepseek_v3", "", deepseek_v3),
            ("deepseek_v3", "3.1", deepseek_v31),
            ("deepseek_v32", "", partial(dsml, "｜DSML｜", "function_calls")),
            ("deepseek_v4", "", partial(dsml, "｜DSML｜", "tool_calls")),
            ("deepseek_v41", "", partial(dsml, "｜DSML｜ ", "calls")),
            (
                "functiongemma",
                "",
                partial(gemma, "<start_function_call>", "<end_function_call>", "<escape>"),
            ),
            ("gemma4", "", partial(gemma, "<|tool_call>", "<tool_call|>", '<|"|>')),
            ("dots", "", partial(minimax_m2, "dots_function_call")),
            ("ernie45", "", partial(tagged_json, "<tool_call>", "</tool_call>")),
            ("functionary", "", functionary),
            ("gigachat3", "", gigachat3),
            ("glm45", "", partial(glm45, "\n")),
            ("glm45", "4.7", partial(glm45, "")),
            ("granite", "", partial(tagged_list, "<|tool_call|>", "")),
            ("granite-20b-fc", "", partial(tagged_json, "<function_call>", "")),
            ("hermes", "", partial(tagged_json, "<tool_call>", "</tool_call>")),
            ("hy_v3", "", hy_v3),
            ("hunyuan_a13b", "", partial(tagged_list, "<tool_calls>", "</tool_calls>")),
            ("inkling", "", inkling),
            ("internlm", "", partial(tagged_json, "<|action_start|><|plugin|>", "<|action_end|>")),
            ("jamba", "", partial(tagged_list, "<tool_calls>", "</tool_calls>")),
            ("jamba", "lines", minimax_m1),
            ("k2_horizon", "", k2_horizon),
            ("kimi_k2", "", kimi_k2),
            ("kimi_k3", "", kimi_k3),
            ("kimi_k3", "json", kimi_k3_json),
            ("llama3_json", "", llama3_json),
            ("llama3_json", "tag", partial(around, "<|python_tag|>", llama3_json, "")),
            ("longcat", "", partial(tagged_json, "<longcat_tool_call>", "</longcat_tool_call>")),
            ("minicpm5", "", minicpm5),
            ("minimax_m2", "", partial(minimax_m2, "minimax:tool_call")),
            ("minimax_m3", "", minimax_m3),
            ("mistral", "list", partial(tagged_list, "[TOOL_CALLS]", "")),
            ("mistral", "", partial(mistral, "[ARGS]")),
            ("mistral", "bare", partial(mistral, "")),
            ("mistral", "id", partial(mistral, "[CALL_ID]abcdefghi[ARGS]")),
            ("muse_glimmer", "", muse_glimmer_start),
            ("nemotron_json", "", partial(tagged_list, "<TOOLCALL>", "</TOOLCALL>")),
            ("olmo3", "", olmo3),
            ("openai", "", harmony),
            ("openai", "role", harmony_role),
            ("phi4_mini_json", "", partial(tagged_list, "functools", "")),
            ("phi4_mini_json", "tag", partial(tagged_list, "<|tool_call|>", "<|/tool_call|>")),
            ("plamo3", "", plamo3),
            ("pythonic", "", pythonic),
            ("pythonic", "tag", partial(around, "<|python_start|>", pythonic, "<|python_end|>")),
            ("qwen3_coder", "", partial(qwen3_coder, "<tool_call>\n", "\n</tool_call>")),
            ("qwen3_coder", "bare", partial(qwen3_coder, "", "")),
            ("solar_open", "", solar_open),
            ("step3", "", step3),
            ("xlam", "", partial(tagged_list, "", "")),
            ("xlam", "block", partial(around, "```json\n", partial(tagged_list, "", ""), "\n```")),
        )
    },
}
"""By the format's name, and which of its variants it is."""
