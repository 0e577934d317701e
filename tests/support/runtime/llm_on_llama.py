"""`LLM` on a tiny Llama, with prompts and what transformers makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo import LLM, SamplingParams

KV_BYTES_PER_TOKEN = 2 * 2 * 2 * 16 * 4  # keys and values, layers, KV heads, head size, float32
LENGTHS = [1, 5, 15, 16, 17, 33, 64, 2, 100, 31]


@dataclass(frozen=True)
class Model:
    folder: Path
    reference: Any
    prompts: list[list[int]]
    expected: list[list[int]]


def make_llm(model: Model, num_kv_tokens: int = 4096, **options: Any) -> LLM:
    return LLM(
        str(model.folder),
        dtype="float32",
        device="cpu",
        kv_cache_memory_bytes=num_kv_tokens * KV_BYTES_PER_TOKEN,
        **options,
    )


GREEDY = SamplingParams(temperature=0.0, max_tokens=24)


def tokens_of(outputs: list[Any]) -> list[list[int]]:
    return [output.outputs[0].token_ids for output in outputs]
