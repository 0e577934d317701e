"""transformers' own continuous batching, on requests of the mix that ask for their own lengths."""

from __future__ import annotations

import importlib.util
import random
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.gpu.context import Context
from benchmarks.gpu.loads import Load, against_baselines
from benchmarks.gpu.results import SectionResult

_PAGE_TOKENS = 32
# paged|sdpa masks every query against every cached token: larger batches spend memory on masks alone.
_MAX_BATCH_TOKENS = 2048


def run(context: Context) -> SectionResult:
    loads = against_baselines(context.scale)["paged"]
    context.transformers_model.set_attn_implementation("paged|sdpa")
    _run(context, [Load(8, 4)] * 2)
    seconds = _run(context, loads)
    tokens = sum(load.output_tokens for load in loads)
    context.emit(
        {
            "baseline": "generate_batch, paged|sdpa",
            "load": "paged",
            "requests": len(loads),
            "seconds": round(seconds, 3),
            "output_tokens_per_second": round(tokens / seconds, 1),
        }
    )
    if importlib.util.find_spec("flash_attn") is None:
        return context.result(
            "FlashAttention is not installed, without which generate_batch is handicapped"
        )
    return context.result()


def _run(context: Context, loads: Sequence[Load]) -> float:
    """Seconds from the first request's submission to the last token.

    Raises:
        RuntimeError: transformers failed a request or stopped.
    """
    from transformers import GenerationConfig
    from transformers.generation import ContinuousBatchingConfig

    tokens = sum(load.prompt_tokens + load.output_tokens + _PAGE_TOKENS for load in loads)
    manager_context = context.transformers_model.continuous_batching_context_manager(
        generation_config=GenerationConfig(
            do_sample=False, eos_token_id=-1, pad_token_id=0, max_new_tokens=1
        ),
        continuous_batching_config=ContinuousBatchingConfig(
            page_size=_PAGE_TOKENS,
            num_blocks=-(-tokens // _PAGE_TOKENS),
            max_batch_tokens=min(_MAX_BATCH_TOKENS, context.scale.max_num_batched_tokens),
            auto_switch_to_flash=False,
        ),
        block=True,
        timeout=30,
    )
    numbers = random.Random(3)
    with manager_context as manager:
        start = time.perf_counter()
        for load in loads:
            prompt = [
                numbers.randrange(3, context.shape.vocab_size) for _ in range(load.prompt_tokens)
            ]
            manager.add_request(prompt, max_new_tokens=load.output_tokens)
        _await(context, manager, loads)
        return time.perf_counter() - start


def _await(context: Context, manager: Any, loads: Sequence[Load]) -> None:
    produced, finished = 0, 0
    while finished < len(loads):
        context.check()
        result = manager.get_result(timeout=1)
        if result is None:
            if not manager.is_running():
                raise RuntimeError("transformers' continuous batching stopped")
            continue
        if result.error is not None:
            raise RuntimeError(f"transformers failed a request: {result.error}")
        if result.is_finished():
            finished += 1
            produced += len(result.generated_tokens)
    wanted = sum(load.output_tokens for load in loads)
    if produced != wanted:
        raise RuntimeError(f"transformers generated {produced} tokens, {wanted} were asked for")
