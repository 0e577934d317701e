"""The parsers of a model: those that read back what its own chat template writes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from octavo.chat import ChatTemplate, ChatTemplates, template_messages
from octavo.config import EngineConfig
from octavo.engine.requests.marked_text import MarkedText
from octavo.errors import InvalidConfigurationError
from octavo.model_source import resolve
from octavo.server.openai.parsing.choice import choose_markup
from octavo.server.openai.parsing.reasoning import ReasoningFormat
from octavo.server.openai.parsing.tool_calls import ToolCallParser
from octavo.server.process.options import ServeOptions
from octavo.tokenizer import load_tokenizer
from tests.support.runtime import published_templates as published
from tests.support.runtime import templates_with_heads as with_heads
from tests.support.runtime.read_calls import Call, read_with

ARGUMENTS = {"text": 'a "b" </tool_call> {[(\\ é\n', "count": 3}
TOOLS: Any = {"write": {"properties": {"text": {"type": "string"}, "count": {"type": "integer"}}}}
# Its tags are of a format that nobody here reads.
UNKNOWN = published.HERMES.replace("<tool_call>", "<calls>[").replace("</tool_call>", "]</calls>")
CHOSEN = {
    "QWEN": ("hermes", "qwen3"),
    "HERMES": ("hermes", "none"),
    "QWEN_CODER": ("qwen3_coder", "none"),
    "LLAMA3": ("llama3_json", "none"),
    "LLAMA4": ("llama3_json", "none"),
    "MISTRAL": ("mistral", "none"),
    "MISTRAL_V3": ("mistral", "none"),
    "MAGISTRAL": ("mistral", "mistral"),
    "DEEPSEEK_R1_DISTILL": ("deepseek_v3", "qwen3"),
    "LFM2": ("pythonic", "none"),
    "GLM45": ("glm45", "qwen3"),
    "GLM47": ("glm45", "qwen3"),
    "GEMMA4": ("gemma4", "gemma4"),
    "FUNCTION_GEMMA": ("functiongemma", "none"),
    "KIMI_K2": ("kimi_k2", "none"),
    "GPT_OSS": ("openai", "openai_gptoss"),
    "INTERNLM": ("internlm", "none"),
    "GRANITE": ("granite", "none"),
    "LLAMA_GUARD": ("none", "none"),
    "VISION": ("none", "none"),
    "APERTUS": ("apertus", "apertus"),
    "COMMAND_R7B": ("cohere_command3", "cohere_command3"),
    "COMMAND_4": ("cohere_command4", "cohere_command4"),
    "DEEPSEEK_V32": ("deepseek_v32", "qwen3"),
    "DEEPSEEK_V4": ("deepseek_v4", "qwen3"),
    "FUNCTIONARY": ("functionary", "none"),
    "GIGACHAT3": ("gigachat3", "none"),
    "GIGACHAT31": ("gigachat3", "none"),
    "ERNIE45": ("ernie45", "ernie45"),
    "HUNYUAN_A13B": ("hunyuan_a13b", "hunyuan_a13b"),
    "HUNYUAN": ("jamba", "none"),
    "MINIMAX_M1": ("jamba", "none"),
    "HY3": ("hy_v3", "hy_v3"),
    "KIMI_K3": ("kimi_k3", "kimi_k3"),
    "MINICPM5": ("minicpm5", "none"),
    "MINIMAX_M2": ("minimax_m2", "qwen3"),
    "MINIMAX_M3": ("minimax_m3", "minimax_m3"),
    "NEMOTRON_NANO2": ("nemotron_json", "qwen3"),
    "SOLAR_OPEN": ("solar_open", "solar_open"),
    "XLAM": ("xlam", "none"),
}
WITH_HEADS = {
    "GPT_OSS",
    "COMMAND_R7B",
    "COMMAND_4",
    "ERNIE45",
    "HUNYUAN_A13B",
    "GIGACHAT3",
    "GIGACHAT31",
    "KIMI_K3",
    "SOLAR_OPEN",
}


def templates_of(source: str) -> ChatTemplates:
    template = ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"})
    return ChatTemplates({"default": template})


@pytest.mark.parametrize("name", CHOSEN)
def test_the_parsers_are_those_of_the_template(name: str) -> None:
    templates = templates_of(getattr(published, name, None) or getattr(with_heads, name))
    markup = choose_markup(templates, {})
    assert (markup.calls_name, markup.reasoning_name) == CHOSEN[name]
    assert (markup.channels is not None) is (name in WITH_HEADS)
    if markup.calls is None:
        return
    call_id = "functions.write:0" if name == "KIMI_K2" else "abcdefghi"
    call: dict[str, Any] = {"id": call_id, "type": "function"}
    call |= {"function": {"name": "write", "arguments": json.dumps(ARGUMENTS)}}
    question: dict[str, Any] = {"role": "user", "content": "octavoquestion"}
    (template,) = templates
    messages = template_messages([question, {"role": "assistant", "tool_calls": [call]}])
    text = template.render(messages, add_generation_prompt=False).partition("octavoquestion")[2]
    parser = ToolCallParser(markup.calls, TOOLS)
    pieces = read_with(parser, MarkedText(text))
    (found,) = (piece for piece in pieces if isinstance(piece, Call))
    assert (found.name, json.loads(found.arguments)) == ("write", ARGUMENTS)
    # In the next turn the template takes the id.
    again = [question, {"role": "assistant", "tool_calls": [{**call, "id": found.id}]}]
    assert template.render(template_messages(again), add_generation_prompt=False)


def test_seed_oss_writes_qwens_calls_in_tags_of_its_own() -> None:
    template = published.QWEN_CODER.replace("tool_call>", "seed:tool_call>") + "{# </seed:think> #}"
    markup = choose_markup(templates_of(template), {})
    assert (markup.calls_name, markup.reasoning_name) == ("qwen3_coder", "seed_oss")
    assert markup.calls is not None
    text = "<seed:tool_call>\n<function=write>\n</function>\n</seed:tool_call>"
    (found,) = read_with(ToolCallParser(markup.calls, TOOLS), MarkedText(text))
    assert isinstance(found, Call)


def test_tags_of_another_format_are_not_taken_for_a_bare_call() -> None:
    assert choose_markup(templates_of(UNKNOWN), {}).calls is None


def test_names_are_taken_and_others_refused() -> None:
    given = choose_markup(
        None, {}, tool_call_parser="llama4_pythonic", reasoning_parser="deepseek_r1"
    )
    assert (given.calls_name, given.reasoning_name) == ("pythonic", "deepseek_r1")
    off = choose_markup(
        templates_of(published.QWEN), {}, tool_call_parser="none", reasoning_parser="none"
    )
    assert off.parser("", TOOLS) is None
    for name in ("tool_call_parser", "reasoning_parser"):
        options: Any = {"model": "m", "engine": EngineConfig(model=""), "served_names": ("m",)}
        options[name] = "other"
        with pytest.raises(InvalidConfigurationError, match=rf"{name}.*(hermes|qwen3)"):
            ServeOptions(**options)


def test_what_a_response_template_tells_is_taken() -> None:
    fields = {
        "thinking": {"open": "<|thought|>\n", "close": "<|thought_end|>"},
        "tool_calls": {
            "open": "<call|",
            "close": "|call>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close": "<eos>", "content": "text"},
    }
    markup = choose_markup(templates_of(published.QWEN), {"response_template": {"fields": fields}})
    assert markup.reasoning == ReasoningFormat("<|thought|>", "<|thought_end|>")
    assert markup.calls is not None
    assert markup.calls.openings == ("<call|",)
    fields["tool_calls"] = {
        "open_pattern": "<call:(?P<name>x)>",
        "close": "|call>",
        "content": "json",
    }
    assert (
        choose_markup(
            templates_of(published.QWEN), {"response_template": {"fields": fields}}
        ).calls_name
        == "hermes"
    )


def test_the_demo_model_writes_hermes() -> None:
    markup = choose_markup(load_tokenizer(resolve("builtin://demo")).chat_templates, {})
    assert (markup.calls_name, markup.reasoning_name) == ("hermes", "none")
