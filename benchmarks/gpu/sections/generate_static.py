"""transformers `generate` with a static cache, at one request.

On a GPU transformers compiles it first, which takes most of the section's time and is not timed.
"""

from __future__ import annotations

from benchmarks.gpu.context import Context
from benchmarks.gpu.loads import against_baselines
from benchmarks.gpu.results import SectionResult
from benchmarks.gpu.sections.generate import emit, generate


def run(context: Context) -> SectionResult:
    single = against_baselines(context.scale)["single"]
    generate(context, single, cache_implementation="static")
    emit(context, "generate, static cache", "single", single, cache_implementation="static")
    return context.result("compiled by transformers on GPUs; compilation is not timed")
