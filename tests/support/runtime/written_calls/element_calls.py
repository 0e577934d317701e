"""Element calls: each argument is an XML-like element, and a text in it stands as it is."""

from __future__ import annotations

import re

from tests.support.runtime.written_calls.calls import Calls, as_json


def bare(value: object) -> str:
    """A text as it is."""
    return value if isinstance(value, str) else as_json(value)


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
