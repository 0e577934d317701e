"""JSON calls: a call's arguments are one JSON object, between marks or within an object of the call."""

from __future__ import annotations

from typing import Any

from tests.support.runtime.written_calls.calls import Calls, as_json


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


def minimax_m1(calls: Calls) -> str:
    return "<tool_calls>\n" + "\n".join(objects(calls)) + "\n</tool_calls>"


def cohere(calls: Calls) -> str:
    inside = ",\n    ".join(
        as_json({"tool_call_id": str(number), "tool_name": name, "parameters": given})
        for number, (name, given) in enumerate(calls)
    )
    return f"<|START_ACTION|>[\n    {inside}\n]<|END_ACTION|>"


def apertus(calls: Calls) -> str:
    inside = ", ".join(as_json({name: given}) for name, given in calls)
    return f"<|tools_prefix|>[{inside}]<|tools_suffix|>"


def kimi_k3_json(calls: Calls) -> str:
    return "<|open|>tools<|sep|>{}<|close|>tools<|sep|>".format(
        "".join(
            f'<|open|>call tool="{name}" index="{number}"<|sep|><|open|>json type="object"<|sep|>'
            f"{as_json(given)}<|close|>json<|sep|><|close|>call<|sep|>"
            for number, (name, given) in enumerate(calls, 1)
        )
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
