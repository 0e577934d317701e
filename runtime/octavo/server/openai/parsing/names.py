"""Names of parsers, as vLLM has them, for `--tool-call-parser` and `--reasoning-parser`."""

from __future__ import annotations

AUTO, NONE = "auto", "none"
CALL_ALIASES = {
    "deepseek_v31": "deepseek_v3",
    "llama4_json": "llama3_json",
    "llama4_pythonic": "pythonic",
    "qwen3_xml": "qwen3_coder",
}
"""Others of the same format."""
REASONING_ALIASES = {"glm45": "qwen3", "nemotron_v3": "qwen3"}
TOOL_CALL_PARSERS = (
    AUTO,
    NONE,
    *("deepseek_v3", "hermes", "llama3_json", "mistral", "pythonic", "qwen3_coder"),
    *CALL_ALIASES,
)
REASONING_PARSERS = (AUTO, NONE, "deepseek_r1", "mistral", "qwen3", *REASONING_ALIASES)
