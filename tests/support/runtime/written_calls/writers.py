"""Writers of calls: for each format of tool calls, and each of its variants, what puts some into its text."""

from __future__ import annotations

from functools import partial

from octavo.server.openai.parsing.formats import CALL_FORMATS, CallFormat, TaggedJson
from tests.support.runtime.written_calls.calls import Calls, Writer
from tests.support.runtime.written_calls.element_calls import (
    dsml,
    glm45,
    hy_v3,
    k2_horizon,
    kimi_k3,
    minicpm5,
    minimax_m2,
    minimax_m3,
    muse_glimmer_start,
    qwen3_coder,
    step3,
)
from tests.support.runtime.written_calls.json_calls import (
    apertus,
    cohere,
    deepseek_v3,
    deepseek_v31,
    functionary,
    gigachat3,
    harmony,
    harmony_role,
    inkling,
    kimi_k2,
    kimi_k3_json,
    llama3_json,
    minimax_m1,
    mistral,
    plamo3,
    solar_open,
    tagged_json,
    tagged_list,
)
from tests.support.runtime.written_calls.literal_calls import gemma, olmo3, pythonic


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
