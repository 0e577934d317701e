"""Time to first token and inter-token latency while requests arrive at a fixed mean rate."""

from __future__ import annotations

from benchmarks.gpu.context import Context
from benchmarks.gpu.loads import percentiles, poisson
from benchmarks.gpu.results import SectionResult


def run(context: Context) -> SectionResult:
    for rate in context.scale.request_rates:
        loads = poisson(context.scale, rate)
        if not loads:
            continue
        requests, seconds = context.engine.run(loads)
        first = percentiles([request.first_token_seconds for request in requests])
        gaps = percentiles([gap for request in requests for gap in request.gaps])
        tokens = sum(request.tokens for request in requests)
        context.emit(
            {
                "requests_per_second": rate,
                "requests": len(requests),
                "output_tokens_per_second": round(tokens / seconds, 1),
                **{f"first_token_{name}": value for name, value in first.items()},
                **{f"inter_token_{name}": value for name, value in gaps.items()},
            }
        )
    return context.result(
        "Poisson arrivals, seeded; in the engine's process: HTTP and tokenisation are not in it"
    )
