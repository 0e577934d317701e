"""Start-up. From process start to an engine that is ready, by phase."""

from __future__ import annotations

import time

from benchmarks.gpu.context import Context
from benchmarks.gpu.results import SectionResult


def run(context: Context) -> SectionResult:
    """`process` is Python, torch and CUDA: everything before the engine begins to load."""
    process = time.time() - context.started
    began = time.perf_counter()
    info = context.engine.info
    engine = time.perf_counter() - began
    context.emit(
        {
            "process_seconds": round(process, 2),
            **{f"{name}_seconds": round(seconds, 2) for name, seconds in info.phases.items()},
            "total_seconds": round(process + engine, 2),
            "kv_cache_tokens": context.engine.kv_capacity,
            "dtype": info.dtype,
        }
    )
    return context.result("random weights: reading a checkpoint from disk is not in it")
