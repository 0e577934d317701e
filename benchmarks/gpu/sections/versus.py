"""Octavo on exactly the requests that the transformers sections run, for ratios of equal loads."""

from __future__ import annotations

from benchmarks.gpu.context import Context
from benchmarks.gpu.loads import Load, mixed
from benchmarks.gpu.results import SectionResult
from benchmarks.gpu.scale import Scale


def loads_of(scale: Scale) -> dict[str, list[Load]]:
    """By name: one request; the requests of one static batch; those of `generate_batch`."""
    mix = mixed(scale)
    return {
        "single": [Load(scale.single_prompt, scale.single_output)],
        "static batch": mix[: scale.static_batch],
        "paged": mix[: scale.paged_requests],
    }


def run(context: Context) -> SectionResult:
    for name, loads in loads_of(context.scale).items():
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
