"""Saturated throughput: the batch is always full, and each request has equally many tokens in and out."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.gpu.context import Context
from benchmarks.gpu.loads import Load, stationary
from benchmarks.gpu.results import SectionResult


def run(context: Context) -> SectionResult:
    """Starts from a batch whose requests are of all ages, replaces each that ends, and counts a window."""
    scale, engine = context.scale, context.engine
    for load in stationary(scale):
        engine.add(load)
    fresh = Load(scale.saturated_prompt, scale.saturated_output)

    def step() -> None:
        for _ in engine.step():
            engine.add(fresh)

    _fill(context, step)
    first, counted = engine.output_tokens, engine.stats
    start = time.perf_counter()
    running: list[int] = []
    while time.perf_counter() - start < scale.saturated_window:
        step()
        running.append(engine.stats.num_running)
    seconds = time.perf_counter() - start
    tokens = engine.output_tokens - first
    prompts = engine.stats.prompt_tokens_total - counted.prompt_tokens_total
    context.emit(
        {
            "tokens_in_and_out": f"{scale.saturated_prompt}/{scale.saturated_output}",
            "window_seconds": round(seconds, 1),
            "output_tokens_per_second": round(tokens / seconds, 1),
            "prompt_tokens_per_second": round(prompts / seconds, 1),
            "mean_running": round(sum(running) / len(running), 1),
            "preemptions": engine.stats.preemptions_total - counted.preemptions_total,
        }
    )
    return context.result("a window of a stationary load: prefill of new requests is in it")


def _fill(context: Context, step: Callable[[], None]) -> None:
    """Steps until all requests run, or the cache holds no more: two steps that admit nobody."""
    engine = context.engine
    idle_steps = 0
    while engine.stats.num_waiting and idle_steps < 2:
        admitted = engine.stats.prompt_tokens_total
        step()
        idle_steps = idle_steps + 1 if engine.stats.prompt_tokens_total == admitted else 0
