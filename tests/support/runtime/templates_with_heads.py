"""Shapes of published chat templates whose calls are elements, lists or messages with heads, in our own
words: what each prints around an answer and a call."""

from __future__ import annotations


def _template(
    turn: str, call: str, *, before: str = "", between: str = "", behind: str = ""
) -> str:
    """Of users' messages and answers.

    Args:
        turn: What an answer is printed as that is no call.
        call: Each of the calls of one that is.
        before, between, behind: Of all calls, and of two.
    """
    return (
        "{%- for message in messages -%}{%- if message.role == 'user' -%}"
        "{{- '<|user|>' + message.content -}}"
        "{%- elif message.tool_calls -%}{{- '<|assistant|>' -}}"
        f"{before}{{%- for call in message.tool_calls -%}}{{%- set f = call.function -%}}{call}"
        f"{{%- if not loop.last -%}}{between}{{%- endif -%}}{{%- endfor -%}}{behind}"
        "{%- else -%}{{- '<|assistant|>' -}}"
        f"{turn}{{%- endif -%}}{{%- endfor -%}}"
        "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
    )


def _elements(key: str, value: str, end: str) -> str:
    shown = "(value if value is string else value | tojson)"
    return (
        "{%- for name, value in f.arguments | items -%}"
        f"{{{{- {key} + name + {value} + {shown} + {end} -}}}}"
        "{%- endfor -%}"
    )


CONTENT = "{{- message.content or '' -}}"
_JSON = """{{- '{"name": "' + f.name + '", "arguments": ' + (f.arguments | tojson) + '}' -}}"""

APERTUS = _template(
    CONTENT + "{# <|inner_suffix|> #}",
    """{{- '{"' + f.name + '": ' + (f.arguments | tojson) + '}' -}}""",
    before="{{- '<|tools_prefix|>[' -}}",
    between="{{- ', ' -}}",
    behind="{{- ']<|tools_suffix|>' -}}",
)
_COHERE_CALL = (
    """{{- '\\n    {"tool_call_id": "0", "tool_name": "' + f.name + '", "parameters": ' -}}"""
    "{{- (f.arguments | tojson) + '}' -}}"
)
COMMAND_R7B = _template(
    "{{- '<|START_RESPONSE|>' + (message.content or '') + '<|END_RESPONSE|>' -}}",
    _COHERE_CALL,
    before="{{- '<|START_THINKING|>Hm<|END_THINKING|><|START_ACTION|>[' -}}",
    between="{{- ',' -}}",
    behind="{{- '\\n]<|END_ACTION|>' -}}",
)
COMMAND_4 = COMMAND_R7B.replace("START_RESPONSE", "START_TEXT").replace("END_RESPONSE", "END_TEXT")
DEEPSEEK_V32 = _template(
    "{{- '</think>' + (message.content or '') -}}",
    "{{- '\\n<｜DSML｜invoke name=\"' + f.name + '\">\\n' -}}"
    "{%- for name, value in f.arguments | items -%}"
    "{{- '<｜DSML｜parameter name=\"' + name + '\" string=\"' -}}"
    "{{- ('true' if value is string else 'false') + '\">' -}}"
    "{{- (value if value is string else value | tojson) + '</｜DSML｜parameter>\\n' -}}"
    "{%- endfor -%}{{- '</｜DSML｜invoke>' -}}",
    before="{{- '\\n\\n<｜DSML｜function_calls>' -}}",
    behind="{{- '\\n</｜DSML｜function_calls>' -}}",
)
DEEPSEEK_V4 = DEEPSEEK_V32.replace("function_calls", "tool_calls")
ERNIE45 = _template(
    "{{- '<think>\\n</think>\\n\\n<response>\\n' + (message.content or '') + '\\n</response>\\n' -}}",
    "{{- '\\n<tool_call>\\n' -}}" + _JSON + "{{- '\\n</tool_call>\\n' -}}",
)
FUNCTIONARY = _template(
    CONTENT, "{{- '<function=' + f.name + '>' + (f.arguments | tojson) + '</function>' -}}"
)
GIGACHAT3 = _template(
    "{{- (message.content or '') + '<|message_sep|>\\n\\n' -}}",
    "{{- '<|message_sep|>\\n\\nfunction call<|role_sep|>\\n' -}}" + _JSON,
    behind="{{- '<|message_sep|>\\n\\n' -}}",
)
GIGACHAT31 = _template(CONTENT, "{{- '<|function_call|>' -}}" + _JSON)
HUNYUAN = _template(
    CONTENT,
    _JSON,
    before="{{- '<tool_calls>[' -}}",
    between="{{- ', ' -}}",
    behind="{{- ']</tool_calls>' -}}",
)
HUNYUAN_A13B = HUNYUAN.replace(
    CONTENT,
    "{{- '<think>\\n\\n</think>\\n<answer>\\n' + (message.content or '') + '\\n</answer>' -}}",
)
MINIMAX_M1 = HUNYUAN.replace("<tool_calls>[", "<tool_calls>\\n").replace("]</", "\\n</")
HY3 = _template(
    "{{- '<think:open></think:open>' + (message.content or '') -}}",
    "{{- '<tool_call:open>' + f.name + '<tool_sep:open>\\n' -}}"
    + _elements(
        "'<arg_key:open>'", "'</arg_key:open>\\n<arg_value:open>'", "'</arg_value:open>\\n'"
    )
    + "{{- '</tool_call:open>\\n' -}}",
    before="{{- '<tool_calls:open>\\n' -}}",
    behind="{{- '</tool_calls:open>' -}}",
)
_KIMI_K3_CALL = (
    "{{- '<|open|>call tool=\"' + f.name + '\" index=\"1\"<|sep|>' -}}"
    "{%- for name, value in f.arguments | items -%}"
    "{{- '<|open|>argument key=\"' + name + '\" type=\"' -}}"
    "{{- ('string' if value is string else 'number') + '\"<|sep|>' -}}"
    "{{- (value if value is string else value | tojson) + '<|close|>argument<|sep|>' -}}"
    "{%- endfor -%}{{- '<|close|>call<|sep|>' -}}"
)
_KIMI_K3_EMPTY = "<|open|>response<|sep|><|close|>response<|sep|>"
KIMI_K3 = _template(
    "{{- '<|open|>response<|sep|>' + (message.content or '') + '<|close|>response<|sep|>' -}}",
    _KIMI_K3_CALL,
    before=f"{{{{- '{_KIMI_K3_EMPTY}<|open|>tools<|sep|>' -}}}}",
    behind="{{- '<|close|>tools<|sep|>' -}}",
).replace(
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}",
    "{%- if add_generation_prompt -%}{{- '<|assistant|><|open|>' + 'think' + '<|sep|>' -}}",
)
MINICPM5 = _template(
    CONTENT,
    "{{- '<function name=\"' + f.name + '\">' -}}{%- for name, value in f.arguments | items -%}"
    "{{- '<param name=\"' + name + '\">' -}}"
    "{{- '<![CDATA[' + value + ']]>' if value is string and '\\n' in value else value -}}"
    "{{- '</param>' -}}{%- endfor -%}{{- '</function>' -}}",
    between="{{- '\\n' -}}",
)
MINIMAX_M2 = _template(
    CONTENT,
    "{{- '<invoke name=\"' + f.name + '\">\\n' -}}"
    + _elements("'<parameter name=\"'", "'\">'", "'</parameter>\\n'")
    + "{{- '</invoke>\\n' -}}",
    before="{{- '\\n<minimax:tool_call>\\n' -}}",
    behind="{{- '</minimax:tool_call>' -}}{# </think> #}",
)
MINIMAX_M3 = _template(
    "{{- '</mm:think>' + (message.content or '') -}}",
    "{{- ']<]minimax[>[<invoke name=\"' + f.name + '\">' -}}"
    + _elements("']<]minimax[>[<'", "'>'", "']<]minimax[>[</' + name + '>'")
    + "{{- ']<]minimax[>[</invoke>\\n' -}}",
    before="{{- '</mm:think>]<]minimax[>[<tool_call>\\n' -}}",
    behind="{{- ']<]minimax[>[</tool_call>' -}}",
)
NEMOTRON_NANO2 = (
    HUNYUAN.replace("tool_calls>[", "TOOLCALL>[").replace("]</tool_calls>", "]</TOOLCALL>")
    + "{# </think> #}"
)
SOLAR_OPEN = _template(
    "{{- '<|begin|>assistant<|content|>' + (message.content or '') + '<|end|>' -}}",
    "{{- '<|tool_call:begin|>' + call.id + '<|tool_call:name|>' + f.name -}}"
    "{{- '<|tool_call:args|>' + (f.arguments | tojson) + '<|tool_call:end|>' -}}",
    before="{{- '<|begin|>assistant<|tool_calls|>' -}}",
    behind="{{- '<|calls|>' -}}{# <|begin|>assistant<|think|> #}",
)
XLAM = _template(
    CONTENT, _JSON, before="{{- '\\n[' -}}", between="{{- ', ' -}}", behind="{{- ']' -}}"
)
