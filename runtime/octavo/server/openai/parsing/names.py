"""Names of parsers, as vLLM has them, for `--tool-call-parser` and `--reasoning-parser`."""

from __future__ import annotations

from octavo.server.openai.parsing.formats import CALL_FORMATS
from octavo.server.openai.parsing.reasoning import REASONING_FORMATS

AUTO, NONE = "auto", "none"
CALL_ALIASES = {
    "deepseek_v31": "deepseek_v3",
    "glm47": "glm45",
    "granite4": "hermes",
    "hy_v4": "hy_v3",
    "lfm2": "pythonic",
    "ling3": "glm45",
    "llama4_json": "llama3_json",
    "llama4_pythonic": "pythonic",
    "mimo": "qwen3_coder",
    "minimax_m1": "jamba",
    "poolside_v1": "glm45",
    "qwen3_json": "hermes",
    "qwen3_xml": "qwen3_coder",
    "seed_oss": "qwen3_coder",
    "step3p5": "qwen3_coder",
}
"""Others of the same format."""
REASONING_ALIASES = {
    "hy_v4": "hy_v3",
    **dict.fromkeys(
        (
            "deepseek_v3",
            "deepseek_v4",
            "deepseek_v41",
            "glm45",
            "glm47",
            "granite_thinking_parser",
            "holo2",
            "kimi_k2",
            "ling3",
            "mimo",
            "minicpmv",
            "minimax_m2",
            "nemotron_v3",
            "olmo3",
            "poolside_v1",
            "step3",
            "step3p5",
        ),
        "qwen3",
    ),
}
TOOL_CALL_PARSERS = (AUTO, NONE, *CALL_FORMATS, *CALL_ALIASES)
REASONING_PARSERS = (AUTO, NONE, *REASONING_FORMATS, *REASONING_ALIASES)
CALLS_INSTEAD = (
    ("hf", "use auto, which goes by the model's response_template where it has one, as hf does"),
)
REASONING_INSTEAD = (
    *CALLS_INSTEAD,
    (
        "minimax_m2_append_think",
        "use none, which leaves thoughts in the content, or minimax_m2, which tells them apart",
    ),
)
"""vLLM's names of parsers that are none here."""
