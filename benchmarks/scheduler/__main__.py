"""`python -m benchmarks.scheduler`: time of `Scheduler.schedule` plus `update`, block manager included, and
of packing the step for a GPU (sampled with temperature and top-p).

Three loads: all sequences decode (the steady state); sequences of 512 prompt and 512 output tokens end and
are replaced (mixed); and the first again with the prefix cache on and off, alternating, on prompts that
never hit: what the cache costs when it is of no use. Time is the thread's CPU time: on a shared machine
the wall clock also counts what the neighbours do.
"""

from __future__ import annotations

import gc
import json
import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.cpu.hardware import describe_hardware
from benchmarks.scheduler.load import PROMPT_TOKENS, SchedulerLoad

console = Console()
RUNNING = (1, 64, 256, 1024)
MIXED_OUTPUT_TOKENS = 512
# A block fills every 16 steps of a sequence: one round shows its share.
STEPS_PER_ROUND = 16


def measure_steady(num_running: int, rounds: int) -> dict[str, Any]:
    """Microseconds per decode step; the least round of many, since the machine is never quiet."""
    loads = {caching: SchedulerLoad(num_running, caching=caching) for caching in (True, False)}
    times: dict[bool, list[float]] = {True: [], False: []}
    parts: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    packing: list[float] = []
    for load in loads.values():
        load.fill()
    gc.collect()
    gc.freeze()  # as the engine process does after its start
    for _ in range(rounds):
        for caching, load in loads.items():
            steps = [load.step() for _ in range(STEPS_PER_ROUND)]
            times[caching].append(statistics.mean(step.total for step in steps))
            packing.append(statistics.mean(step.pack for step in steps))
            parts[caching].append(
                (
                    statistics.mean(step.schedule for step in steps),
                    statistics.mean(step.update for step in steps),
                )
            )
    gc.unfreeze()
    best = {caching: min(values) for caching, values in times.items()}
    schedule, update = min(parts[True], key=sum)
    return {
        "running": num_running,
        "schedule_us": _microseconds(schedule),
        "update_us": _microseconds(update),
        "step_us": _microseconds(best[True]),
        "pack_us": _microseconds(min(packing)),
        "step_us_median": _microseconds(statistics.median(times[True])),
        "step_us_per_sequence": round(1e6 * best[True] / num_running, 3),
        "step_us_without_prefix_cache": _microseconds(best[False]),
        "prefix_cache_us": _microseconds(best[True] - best[False]),
    }


def measure_mixed(num_running: int, steps: int, *, caching: bool) -> dict[str, Any]:
    """Sequences end and are replaced; the mean over all steps, prompt chunks included."""
    load = SchedulerLoad(num_running, caching=caching)
    scheduler = load.scheduler
    for position in range(
        num_running
    ):  # their ends are spread, as in a server that runs for a while
        load.add(PROMPT_TOKENS, 1 + position * MIXED_OUTPUT_TOKENS // num_running)
    times: list[float] = []
    has_warmed_up = False
    while len(times) < steps:
        for _ in range(num_running - scheduler.num_running - scheduler.num_waiting):
            load.add(PROMPT_TOKENS, MIXED_OUTPUT_TOKENS)
        elapsed = load.step().total
        has_warmed_up = has_warmed_up or scheduler.num_waiting == 0
        if has_warmed_up:
            times.append(elapsed)
    return {
        "running": num_running,
        "step_us_mean": _microseconds(statistics.mean(times)),
        "step_us_median": _microseconds(statistics.median(times)),
    }


def _microseconds(seconds: float) -> float:
    return round(1e6 * seconds, 1)


def print_tables(result: dict[str, Any]) -> None:
    columns = {
        "running": "running",
        "schedule": "schedule_us",
        "update": "update_us",
        "step": "step_us",
        "per sequence": "step_us_per_sequence",
        "no prefix cache": "step_us_without_prefix_cache",
        "packing": "pack_us",
    }
    table = Table(title="µs per step, all sequences decode")
    for name in columns:
        table.add_column(name, justify="right")
    for row in result["steady"]:
        table.add_row(*(str(row[key]) for key in columns.values()))
    console.print(table)
    table = Table(title="µs per step, sequences end and are replaced (mean)")
    for name in ("running", "prefix cache", "no prefix cache"):
        table.add_column(name, justify="right")
    for cached, plain in zip(result["mixed"], result["mixed_without_prefix_cache"], strict=True):
        table.add_row(
            str(cached["running"]), str(cached["step_us_mean"]), str(plain["step_us_mean"])
        )
    console.print(table)


def main(
    rounds: Annotated[int, typer.Option(help="rounds of 16 decode steps")] = 40,
    steps: Annotated[int, typer.Option(help="steps of the mixed load")] = 400,
    out: Annotated[Path | None, typer.Option(help="JSON to write")] = None,
) -> None:
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": describe_hardware(),
        "rounds": rounds,
        "steps_per_round": STEPS_PER_ROUND,
        "steady": [measure_steady(count, rounds) for count in RUNNING],
        "mixed": [measure_mixed(count, steps, caching=True) for count in RUNNING],
        "mixed_without_prefix_cache": [
            measure_mixed(count, steps, caching=False) for count in RUNNING
        ],
    }
    print_tables(result)
    if out is not None:
        out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
