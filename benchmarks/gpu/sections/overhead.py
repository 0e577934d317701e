"""Overhead. How much of a decode step the GPU idles, and what the step costs the CPU.

Kernel times come from a profiled run of the same steps. The profiler slows the host down, so the idle
share is also given against the unprofiled step.
"""

from __future__ import annotations

import time

from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.context import Context
from benchmarks.gpu.results import Row, SectionResult
from benchmarks.gpu.timing import busy_seconds, synchronize


def run(context: Context) -> SectionResult:
    scale, engine = context.scale, context.engine
    notes = []
    for batch in scale.overhead_batches:
        if batch * (scale.decode_context + 4 * scale.overhead_steps) > engine.kv_capacity:
            notes.append(f"batch {batch} does not fit the KV cache")
            continue
        engine.start_decoding(batch, scale.decode_context, 2 * scale.overhead_steps + 8)
        context.emit(_measure(context, batch))
        engine.abort_all()
    return context.result(
        "schedule: the engine's own part of a step; submit: input preparation and launch; "
        "wait: for the device",
        *notes,
    )


def _measure(context: Context, batch: int) -> Row:
    engine, steps = context.engine, context.scale.overhead_steps
    engine.clock.reset()
    start = time.perf_counter()
    for _ in range(steps):
        engine.step()
    wall = (time.perf_counter() - start) / steps
    submit = engine.clock.submit_seconds / steps
    wait = engine.clock.wait_seconds / steps
    busy, profiled = _profiled(context)
    return {
        "batch": batch,
        "step_ms": round(wall * 1e3, 3),
        "schedule_ms": round((wall - submit - wait) * 1e3, 3),
        "submit_ms": round(submit * 1e3, 3),
        "wait_ms": round(wait * 1e3, 3),
        "gpu_busy_ms": None if busy is None else round(busy * 1e3, 3),
        "gpu_idle_share": None if busy is None else round(max(0.0, 1 - busy / wall), 4),
        "gpu_idle_share_profiled": None if busy is None else round(1 - busy / profiled, 4),
    }


def _profiled(context: Context) -> tuple[float | None, float]:
    """Seconds a step in which a kernel runs (None without a GPU), and of the whole step, profiled."""
    engine, steps = context.engine, context.scale.overhead_steps
    activities = [ProfilerActivity.CPU]
    if context.device.type == "cuda":
        activities = [ProfilerActivity.CUDA]
    with profile(activities=activities) as profiler:
        start = time.perf_counter()
        for _ in range(steps):
            engine.step()
        synchronize(context.device)
        wall = (time.perf_counter() - start) / steps
    intervals = [
        (event.time_range.start * 1e-6, event.time_range.end * 1e-6)
        for event in profiler.events() or []
        if event.device_type.name == "CUDA"
    ]
    return (busy_seconds(intervals) / steps if intervals else None), wall
