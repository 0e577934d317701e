"""Decode at fixed batch sizes through the engine: time of a step, and its share of the roofline."""

from __future__ import annotations

import statistics
import time

from benchmarks.gpu.context import Context
from benchmarks.gpu.formulas import decode_step_seconds
from benchmarks.gpu.results import Row, SectionResult


def run(context: Context) -> SectionResult:
    scale, engine = context.scale, context.engine
    notes = []
    for batch in scale.decode_batches:
        if batch * (scale.decode_context + 3 * scale.decode_steps) > engine.kv_capacity:
            notes.append(
                f"batch {batch} does not fit: the KV cache holds {engine.kv_capacity:,} tokens"
            )
            continue
        context.emit(_measure(context, batch))
        engine.abort_all()
    return context.result(*notes)


def _measure(context: Context, batch: int) -> Row:
    engine, steps = context.engine, context.scale.decode_steps
    requests = engine.start_decoding(batch, context.scale.decode_context, steps)
    held = statistics.mean(request.load.prompt_tokens + request.tokens for request in requests)
    first = engine.output_tokens
    start = time.perf_counter()
    engine.step_until(lambda: engine.output_tokens >= first + batch * steps)
    seconds = time.perf_counter() - start
    tokens = engine.output_tokens - first
    step_seconds = seconds * batch / tokens
    mean_context = held + tokens / batch / 2
    row: Row = {
        "batch": batch,
        "context": round(mean_context),
        "step_ms": round(step_seconds * 1e3, 3),
        "output_tokens_per_second": round(tokens / seconds, 1),
        "roofline_ms": None,
        "roofline_share": None,
    }
    if context.roofline is not None:
        best = decode_step_seconds(context.shape, batch, mean_context, context.roofline)
        row["roofline_ms"] = round(best * 1e3, 3)
        row["roofline_share"] = context.share(best, step_seconds)
    return row
