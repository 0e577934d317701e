"""Octavo on exactly the requests that the transformers sections run, for ratios of equal loads."""

from __future__ import annotations

from benchmarks.gpu.context import Context
from benchmarks.gpu.loads import against_baselines
from benchmarks.gpu.results import SectionResult


def run(context: Context) -> SectionResult:
    for name, loads in against_baselines(context.scale).items():
        if name == "single":
            context.engine.run(loads)
        _, seconds = context.engine.run(loads)
        tokens = sum(load.output_tokens for load in loads)
        context.emit(
            {
                "load": name,
                "requests": len(loads),
                "seconds": round(seconds, 3),
                "output_tokens_per_second": round(tokens / seconds, 1),
            }
        )
    return context.result()
