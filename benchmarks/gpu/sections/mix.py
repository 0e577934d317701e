"""Mix of prompt and output lengths, all requests there at once: throughput, and waste of KV memory.

Waste is the share of allocated slots that hold no token: the unfilled end of each sequence's last block
(Kwon et al. 2023, arXiv 2309.06180).
"""

from __future__ import annotations

import statistics

from benchmarks.gpu.context import Context
from benchmarks.gpu.loads import mixed
from benchmarks.gpu.results import SectionResult

_MIN_TOKENS_HELD = 1000  # below it the ratio speaks of the start and the end, not of the load


def run(context: Context) -> SectionResult:
    scale, engine = context.scale, context.engine
    least = 1 if scale.is_smoke else _MIN_TOKENS_HELD
    waste: list[float] = []

    def sample() -> None:
        stats = engine.stats
        if stats.kv_tokens_held >= least:
            waste.append(1 - stats.kv_tokens_held / (stats.kv_blocks_used * engine.info.block_size))

    loads = mixed(scale)
    _, seconds = engine.run(loads, sample)
    tokens = sum(load.output_tokens for load in loads)
    context.emit(
        {
            "requests": len(loads),
            "tokens_in_and_out": f"{scale.mix_shortest}–{scale.mix_longest}, uniform",
            "seconds": round(seconds, 2),
            "output_tokens_per_second": round(tokens / seconds, 1),
            "kv_waste_mean": round(statistics.mean(waste), 4),
            "kv_waste_max": round(max(waste), 4),
            "kv_waste_samples": len(waste),
        }
    )
    return context.result()
