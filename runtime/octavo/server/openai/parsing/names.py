"""Names of parsers, as vLLM has them, for `--tool-call-parser` and `--reasoning-parser`."""

from __future__ import annotations

AUTO, NONE = "auto", "none"
CALL_ALIASES = {
    "deepseek_v31": "deepseek_v3",
    "glm47": "glm45",
    "llama4_json": "llama3_json",
    "llama4_pythonic": "pythonic",
    "qwen3_xml": "qwen3_coder",
    "seed_oss": "qwen3_coder",
}
"""Others of the same format."""
REASONING_ALIASES = {"glm45": "qwen3", "kimi_k2": "qwen3", "nemotron_v3": "qwen3"}
_CALL_FORMATS = (
    "deepseek_v3",
    "functiongemma",
    "gemma4",
    "glm45",
    "granite",
    "hermes",
    "internlm",
    "kimi_k2",
    "llama3_json",
    "mistral",
    "openai",
    "phi4_mini_json",
    "pythonic",
    "qwen3_coder",
)
_REASONING_FORMATS = (
    "deepseek_r1",
    "gemma4",
    "granite",
    "mistral",
    "openai_gptoss",
    "qwen3",
    "seed_oss",
)
TOOL_CALL_PARSERS = (AUTO, NONE, *_CALL_FORMATS, *CALL_ALIASES)
REASONING_PARSERS = (AUTO, NONE, *_REASONING_FORMATS, *REASONING_ALIASES)
