"""transformers `generate`, eager: one request, and a static batch of mixed lengths.

A static batch pads its prompts and runs until its longest answer is done; only tokens that a request
asked for count.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.gpu.context import Context
from benchmarks.gpu.loads import Load, against_baselines
from benchmarks.gpu.results import SectionResult
from benchmarks.gpu.timing import synchronize

_WARM_UP_TOKENS = 8


def run(context: Context) -> SectionResult:
    loads = against_baselines(context.scale)
    generate(context, [Load(context.scale.single_prompt, _WARM_UP_TOKENS)])
    emit(context, "generate, eager", "single", loads["single"])
    emit(context, "generate, eager", "static batch", loads["static batch"])
    return context.result()


def emit(context: Context, name: str, load: str, loads: Sequence[Load], **options: Any) -> None:
    """One row of a timed run."""
    seconds = generate(context, loads, **options)
    tokens = sum(each.output_tokens for each in loads)
    context.emit(
        {
            "baseline": name,
            "load": load,
            "requests": len(loads),
            "seconds": round(seconds, 3),
            "output_tokens_per_second": round(tokens / seconds, 1),
        }
    )


def generate(context: Context, loads: Sequence[Load], **options: Any) -> float:
    """Seconds of one greedy `generate` over the loads as one left-padded batch."""
    model, device = context.transformers_model, context.device
    longest = max(load.prompt_tokens for load in loads)
    lengths = torch.tensor([load.prompt_tokens for load in loads], device=device)
    generator = torch.Generator().manual_seed(3)
    prompts = torch.randint(3, context.shape.vocab_size, (len(loads), longest), generator=generator)
    prompts = prompts.to(device)
    mask = (torch.arange(longest, device=device) >= longest - lengths[:, None]).long()
    tokens = max(load.output_tokens for load in loads)
    synchronize(device)
    start = time.perf_counter()
    with torch.inference_mode():
        model.generate(
            prompts,
            attention_mask=mask,
            do_sample=False,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            pad_token_id=0,
            **options,
        )
    synchronize(device)
    return time.perf_counter() - start
