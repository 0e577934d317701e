"""Formats of tool calls, by vLLM's names of their parsers."""

from __future__ import annotations

from octavo.server.openai.parsing.formats.base import CallFormat, Tools
from octavo.server.openai.parsing.formats.deepseek_v3 import DEEPSEEK
from octavo.server.openai.parsing.formats.hermes import HERMES, TaggedJson
from octavo.server.openai.parsing.formats.llama3_json import LLAMA3_JSON
from octavo.server.openai.parsing.formats.mistral import MISTRAL
from octavo.server.openai.parsing.formats.pythonic import PYTHONIC
from octavo.server.openai.parsing.formats.qwen3_coder import QWEN3_CODER

# Those with tags of their own come first: a format without any may read what stands between them.
CALL_FORMATS: dict[str, CallFormat] = {
    "hermes": HERMES,
    "qwen3_coder": QWEN3_CODER,
    "mistral": MISTRAL,
    "deepseek_v3": DEEPSEEK,
    "llama3_json": LLAMA3_JSON,
    "pythonic": PYTHONIC,
}

__all__ = ["CALL_FORMATS", "CallFormat", "TaggedJson", "Tools"]
