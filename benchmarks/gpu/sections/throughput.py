"""Saturated throughput: the batch is always full, and each request has equally many tokens in and out."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.gpu.context import Context
from benchmarks.gpu.loads import Load, stationary
from benchmarks.gpu.results import SectionResult

# Of the section's time, for prefilling the first batch; what is left is for the window.
_FILL_SHARE = 0.6
# The window ends this long before the section's time does, so that its row is written.
_SPARE_SECONDS = 2.0


def run(context: Context) -> SectionResult:
    """Starts from a batch whose requests are of all ages, replaces each that ends, and counts a window.

    Prompts of the first batch may come from the prefix cache; those of the window are new.
    """
    scale, engine = context.scale, context.engine
    for number, load in enumerate(stationary(scale)):
        engine.add(load, prompt_number=number)
    fresh = Load(scale.saturated_prompt, scale.saturated_output)

    def step() -> None:
        for _ in engine.step():
            engine.add(fresh)

    notes = ["a window of a stationary load: prefill of new requests is in it"]
    if not _fill(context, step):
        notes.append("the batch was not full when the window began: prefilling it took too long")
    _count_window(context, step)
    return context.result(*notes)


def _count_window(context: Context, step: Callable[[], None]) -> None:
    """Emits what a window shows, of the scale's length or of the time that is left."""
    scale, engine = context.scale, context.engine
    window = min(scale.saturated_window, context.seconds_left - _SPARE_SECONDS)
    first, counted = engine.output_tokens, engine.stats
    start = time.perf_counter()
    running: list[int] = []
    while not running or time.perf_counter() - start < window:
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


def _fill(context: Context, step: Callable[[], None]) -> bool:
    """Steps until all requests run, or the cache holds no more: two steps that admit nobody.

    Returns whether it came so far within its share of the time.
    """
    engine = context.engine
    end = context.seconds_left * (1 - _FILL_SHARE)
    idle_steps = 0
    while engine.stats.num_waiting and idle_steps < 2:
        if context.seconds_left < end:
            return False
        admitted = engine.stats.prompt_tokens_total
        step()
        idle_steps = idle_steps + 1 if engine.stats.prompt_tokens_total == admitted else 0
    return True
