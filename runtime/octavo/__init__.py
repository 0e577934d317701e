"""Octavo's runtime: LLM inference with a paged KV cache, as a library and as an OpenAI server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from octavo.beam_search import BeamSearchParams
    from octavo.llm import LLM
    from octavo.lora import LoRARequest
    from octavo.outputs import (
        CompletionOutput,
        EmbeddingOutput,
        RequestOutput,
        ScoringOutput,
        ScoringRequestOutput,
    )
    from octavo.sampling_params import SamplingParams
    from octavo.structured_outputs import StructuredOutputsParams

__version__ = "0.1.0"
__all__ = [
    "LLM",
    "BeamSearchParams",
    "CompletionOutput",
    "EmbeddingOutput",
    "LoRARequest",
    "RequestOutput",
    "SamplingParams",
    "ScoringOutput",
    "ScoringRequestOutput",
    "StructuredOutputsParams",
    "__version__",
]

_HOMES = {
    "LLM": "octavo.llm",
    "BeamSearchParams": "octavo.beam_search",
    "LoRARequest": "octavo.lora",
    "SamplingParams": "octavo.sampling_params",
    "StructuredOutputsParams": "octavo.structured_outputs",
    "RequestOutput": "octavo.outputs",
    "CompletionOutput": "octavo.outputs",
    "EmbeddingOutput": "octavo.outputs",
    "ScoringOutput": "octavo.outputs",
    "ScoringRequestOutput": "octavo.outputs",
}


def __getattr__(name: str) -> Any:
    """Imports torch only for those who ask for the engine: `octavo --help` stays instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'octavo' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
