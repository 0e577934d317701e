"""Formats of tool calls, by vLLM's names of their parsers."""

from __future__ import annotations

from octavo.server.openai.parsing.formats.base import CallFormat, Tools
from octavo.server.openai.parsing.formats.deepseek_v3 import DEEPSEEK
from octavo.server.openai.parsing.formats.gemma import FUNCTION_GEMMA, GEMMA4
from octavo.server.openai.parsing.formats.glm45 import GLM45
from octavo.server.openai.parsing.formats.harmony import HARMONY
from octavo.server.openai.parsing.formats.hermes import HERMES, INTERNLM, TaggedJson
from octavo.server.openai.parsing.formats.kimi_k2 import KIMI_K2
from octavo.server.openai.parsing.formats.llama3_json import LLAMA3_JSON
from octavo.server.openai.parsing.formats.mistral import MISTRAL
from octavo.server.openai.parsing.formats.pythonic import PYTHONIC
from octavo.server.openai.parsing.formats.qwen3_coder import QWEN3_CODER
from octavo.server.openai.parsing.formats.tagged_list import GRANITE, PHI4_MINI

# Those with tags of their own come first: a format without any may read what stands between them.
CALL_FORMATS: dict[str, CallFormat] = {
    "hermes": HERMES,
    "qwen3_coder": QWEN3_CODER,
    "glm45": GLM45,
    "mistral": MISTRAL,
    "deepseek_v3": DEEPSEEK,
    "kimi_k2": KIMI_K2,
    "openai": HARMONY,
    "gemma4": GEMMA4,
    "functiongemma": FUNCTION_GEMMA,
    "granite": GRANITE,
    "phi4_mini_json": PHI4_MINI,
    "internlm": INTERNLM,
    "llama3_json": LLAMA3_JSON,
    "pythonic": PYTHONIC,
}

__all__ = ["CALL_FORMATS", "HARMONY", "CallFormat", "TaggedJson", "Tools"]
