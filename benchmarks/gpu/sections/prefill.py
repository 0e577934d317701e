"""Prefill in full batches (MFU), and the time to the first token of one request on an idle engine."""

from __future__ import annotations

import statistics

from benchmarks.gpu.context import Context
from benchmarks.gpu.formulas import model_flops_utilisation
from benchmarks.gpu.loads import Load
from benchmarks.gpu.results import Row, SectionResult


def run(context: Context) -> SectionResult:
    context.emit(_full_batches(context))
    for prompt in context.scale.first_token_prompts:
        context.emit(_first_token(context, prompt))
    return context.result()


def _full_batches(context: Context) -> Row:
    scale, engine = context.scale, context.engine
    per_batch = max(1, scale.max_num_batched_tokens // scale.prefill_prompt)
    load = Load(scale.prefill_prompt, 1)
    engine.run([load] * per_batch)
    prompts = per_batch * scale.prefill_batches
    _, seconds = engine.run([load] * prompts)
    row: Row = {
        "measure": f"{per_batch} × {scale.prefill_prompt} tokens a step",
        "prompt_tokens_per_second": round(prompts * scale.prefill_prompt / seconds, 1),
        "mfu": None,
    }
    if context.roofline is not None:
        mfu = model_flops_utilisation(
            context.shape, prompts, scale.prefill_prompt, seconds, context.roofline
        )
        row["mfu"] = round(mfu, 4)
    return row


def _first_token(context: Context, prompt: int) -> Row:
    times = []
    for _ in range(context.scale.first_token_repeats + 1):
        requests, _ = context.engine.run([Load(prompt, 1)])
        times.append(requests[0].first_token_seconds)
    return {
        "measure": f"first token, one prompt of {prompt} tokens",
        "first_token_ms": round(statistics.median(times[1:]) * 1e3, 2),
    }
