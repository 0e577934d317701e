"""`python -m benchmarks.cpu`: output tokens/s at 1, 8 and 32 requests, paired with transformers.

Baseline and server stay loaded, and run in turn: an idle Octavo uses no CPU, and a baseline that waits
on stdin neither. Each pair gives one ratio; the table quotes the median. Of several baseline dtypes the
fastest counts.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.cpu.hardware import describe_hardware
from benchmarks.cpu.models import BenchmarkModel, demo_model, qwen3_0_6b
from benchmarks.cpu.processes import Baseline, Server

console = Console()


def pair(
    server: Server, baselines: list[Baseline], model: BenchmarkModel, concurrency: int, pairs: int
) -> dict[str, Any]:
    """Medians over `pairs` rounds, after one round that is not counted."""
    numbers = random.Random(concurrency)
    prompts = [
        [numbers.randrange(3, 250) for _ in range(model.prompt_tokens)] for _ in range(concurrency)
    ]
    octavo: list[float] = []
    theirs: list[float] = []
    for round_number in range(pairs + 1):
        rates = [baseline.run(prompts, model.output_tokens) for baseline in baselines]
        ours = server.run(prompts, model.output_tokens)
        if round_number:
            octavo.append(ours)
            theirs.append(max(rates))
    ratios = [a / b for a, b in zip(octavo, theirs, strict=True)]
    return {
        "model": model.name,
        "concurrency": concurrency,
        "octavo_tokens_per_second": round(statistics.median(octavo), 1),
        "transformers_tokens_per_second": round(statistics.median(theirs), 1),
        "ratio_min": round(min(ratios), 2),
        "ratio_median": round(statistics.median(ratios), 2),
        "ratio_max": round(max(ratios), 2),
        "pairs": pairs,
    }


def run_model(
    model: BenchmarkModel, work: Path, concurrencies: list[int], pairs: int
) -> list[dict[str, Any]]:
    threads = len(os.sched_getaffinity(0))
    baselines = [Baseline(model, dtype, threads) for dtype in model.baseline_dtypes]
    try:
        with Server(model, work / f"{model.name}.log") as server:
            console.print(f"{model.name}: ready after {server.startup_seconds:.1f} s")
            rows = []
            for concurrency in concurrencies:
                rows.append(pair(server, baselines, model, concurrency, pairs))
                console.print(rows[-1])
            return rows
    finally:
        for baseline in baselines:
            baseline.close()


def table(rows: list[dict[str, Any]]) -> Table:
    out = Table("model", "requests", "octavo tok/s", "transformers tok/s", "ratio (min–max)")
    for row in rows:
        out.add_row(
            row["model"],
            str(row["concurrency"]),
            f"{row['octavo_tokens_per_second']:.1f}",
            f"{row['transformers_tokens_per_second']:.1f}",
            f"{row['ratio_median']:.2f} ({row['ratio_min']:.2f}–{row['ratio_max']:.2f})",
        )
    return out


def main(
    model: Annotated[str, typer.Option(help="demo, qwen3 or all")] = "all",
    concurrency: Annotated[list[int] | None, typer.Option(help="repeatable")] = None,
    pairs: Annotated[int, typer.Option(help="counted rounds")] = 3,
    out: Annotated[Path | None, typer.Option(help="JSON to write")] = None,
) -> None:
    concurrencies = concurrency or [1, 8, 32]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="octavo-bench-") as folder:
        work = Path(folder)
        if model in ("demo", "all"):
            rows += run_model(demo_model(), work, concurrencies, pairs)
        if model in ("qwen3", "all"):
            rows += run_model(qwen3_0_6b(work), work, concurrencies, pairs)
    console.print(table(rows))
    if out is not None:
        result = {
            "date": datetime.now(UTC).date().isoformat(),
            "hardware": describe_hardware(),
            "rows": rows,
        }
        out.write_text(json.dumps(result, indent=1) + "\n")
        console.print(f"written to {out}")


if __name__ == "__main__":
    typer.run(main)
