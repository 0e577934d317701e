"""Formats of tool calls, by vLLM's names of their parsers."""

from __future__ import annotations

from octavo.server.openai.parsing.formats.apertus import APERTUS
from octavo.server.openai.parsing.formats.base import CallFormat, Tools
from octavo.server.openai.parsing.formats.cohere_command3 import COHERE3, COHERE4
from octavo.server.openai.parsing.formats.deepseek_v3 import DEEPSEEK
from octavo.server.openai.parsing.formats.deepseek_v32 import (
    DEEPSEEK_V4,
    DEEPSEEK_V32,
    DEEPSEEK_V41,
)
from octavo.server.openai.parsing.formats.dots import DOTS
from octavo.server.openai.parsing.formats.ernie45 import ERNIE45
from octavo.server.openai.parsing.formats.functionary import FUNCTIONARY
from octavo.server.openai.parsing.formats.gemma import FUNCTION_GEMMA, GEMMA4
from octavo.server.openai.parsing.formats.gigachat3 import GIGACHAT3
from octavo.server.openai.parsing.formats.glm45 import GLM45
from octavo.server.openai.parsing.formats.harmony import HARMONY
from octavo.server.openai.parsing.formats.hermes import (
    GRANITE_20B,
    HERMES,
    INTERNLM,
    LONGCAT,
    TaggedJson,
)
from octavo.server.openai.parsing.formats.hunyuan_a13b import HUNYUAN_A13B
from octavo.server.openai.parsing.formats.hy_v3 import HY_V3
from octavo.server.openai.parsing.formats.inkling import INKLING
from octavo.server.openai.parsing.formats.k2_horizon import K2_HORIZON
from octavo.server.openai.parsing.formats.kimi_k2 import KIMI_K2
from octavo.server.openai.parsing.formats.kimi_k3 import KIMI_K3
from octavo.server.openai.parsing.formats.llama3_json import LLAMA3_JSON
from octavo.server.openai.parsing.formats.minicpm5 import MINICPM5
from octavo.server.openai.parsing.formats.minimax_m2 import MINIMAX_M2
from octavo.server.openai.parsing.formats.minimax_m3 import MINIMAX_M3
from octavo.server.openai.parsing.formats.mistral import MISTRAL
from octavo.server.openai.parsing.formats.muse_glimmer import MUSE_GLIMMER
from octavo.server.openai.parsing.formats.olmo3 import OLMO3
from octavo.server.openai.parsing.formats.plamo3 import PLAMO3
from octavo.server.openai.parsing.formats.pythonic import PYTHONIC
from octavo.server.openai.parsing.formats.qwen3_coder import QWEN3_CODER
from octavo.server.openai.parsing.formats.solar_open import SOLAR_OPEN
from octavo.server.openai.parsing.formats.step3 import STEP3
from octavo.server.openai.parsing.formats.tagged_list import (
    GRANITE,
    NEMOTRON,
    PHI4_MINI,
    TOOL_CALLS,
)
from octavo.server.openai.parsing.formats.xlam import XLAM

CALL_FORMATS: dict[str, CallFormat] = {
    "apertus": APERTUS,
    "cohere_command3": COHERE3,
    "cohere_command4": COHERE4,
    "deepseek_v3": DEEPSEEK,
    "deepseek_v32": DEEPSEEK_V32,
    "deepseek_v4": DEEPSEEK_V4,
    "deepseek_v41": DEEPSEEK_V41,
    "dots": DOTS,
    "functionary": FUNCTIONARY,
    "functiongemma": FUNCTION_GEMMA,
    "gemma4": GEMMA4,
    "gigachat3": GIGACHAT3,
    "glm45": GLM45,
    "granite": GRANITE,
    "granite-20b-fc": GRANITE_20B,
    "hermes": HERMES,
    "ernie45": ERNIE45,
    "hy_v3": HY_V3,
    "inkling": INKLING,
    "internlm": INTERNLM,
    "jamba": TOOL_CALLS,
    "hunyuan_a13b": HUNYUAN_A13B,
    "k2_horizon": K2_HORIZON,
    "kimi_k2": KIMI_K2,
    "kimi_k3": KIMI_K3,
    "longcat": LONGCAT,
    "minicpm5": MINICPM5,
    "minimax_m2": MINIMAX_M2,
    "minimax_m3": MINIMAX_M3,
    "mistral": MISTRAL,
    "muse_glimmer": MUSE_GLIMMER,
    "nemotron_json": NEMOTRON,
    "olmo3": OLMO3,
    "openai": HARMONY,
    "phi4_mini_json": PHI4_MINI,
    "plamo3": PLAMO3,
    "pythonic": PYTHONIC,
    "qwen3_coder": QWEN3_CODER,
    "solar_open": SOLAR_OPEN,
    "step3": STEP3,
    "xlam": XLAM,
    "llama3_json": LLAMA3_JSON,
}
"""Where several read a template's call alike the first is taken: one with heads follows the one without, and
those without tags come last."""

__all__ = ["CALL_FORMATS", "HARMONY", "CallFormat", "TaggedJson", "Tools"]
