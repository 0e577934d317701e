"""`python -m benchmarks.kv_waste`: the share of allocated KV slots that hold no token, under mixed load.

A real `octavo serve` on the demo model; prompts and outputs of mixed lengths arrive in a burst, and the
engine's own account (blocks used, tokens held) is sampled while they run. The waste of PagedAttention is
the unfilled end of each sequence's last block (Kwon et al. 2023, arXiv 2309.06180). Its floor is half a
block for each running sequence, whatever the engine does: it is reported beside what was measured.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.cpu.hardware import describe_hardware
from benchmarks.cpu.models import demo_model
from benchmarks.cpu.processes import Server

console = Console()
BLOCK_SIZE = 16
MIN_TOKENS_HELD = 1000  # below it the ratio speaks of the burst's start and end, not of the load


def sample_waste(
    server: Server, stop: threading.Event, waste: list[float], floor: list[float]
) -> None:
    while not stop.is_set():
        sums = server.metrics()
        slots = sums["octavo_kv_cache_blocks_used"] * BLOCK_SIZE
        held = sums["octavo_kv_cache_tokens"]
        if held >= MIN_TOKENS_HELD:
            waste.append(1 - held / slots)
            floor.append(sums["octavo_requests_running"] * (BLOCK_SIZE - 1) / 2 / slots)
        time.sleep(0.02)


def main(
    requests: Annotated[int, typer.Option(help="requests of the burst")] = 96,
    longest: Annotated[int, typer.Option(help="longest prompt and output, in tokens")] = 400,
    out: Annotated[Path | None, typer.Option(help="JSON to write")] = None,
) -> None:
    numbers = random.Random(7)
    waste: list[float] = []
    floor: list[float] = []
    stop = threading.Event()
    with (
        tempfile.TemporaryDirectory(prefix="octavo-bench-") as folder,
        Server(demo_model(), Path(folder) / "serve.log", ["--max-num-seqs", "32"]) as server,
    ):
        sampler = threading.Thread(target=sample_waste, args=(server, stop, waste, floor))
        sampler.start()
        lengths = [
            (numbers.randint(40, longest), numbers.randint(40, longest)) for _ in range(requests)
        ]
        threads = [
            # Prompts that differ from their first token on: the prefix cache must not share them.
            threading.Thread(target=server.run, args=([[5 + position] * prompt], output))
            for position, (prompt, output) in enumerate(lengths)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stop.set()
        sampler.join()
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": describe_hardware(),
        "requests": requests,
        "prompt_and_output_tokens": f"40–{longest}, uniform",
        "samples": len(waste),
        "waste_mean": round(statistics.mean(waste), 4),
        "waste_max": round(max(waste), 4),
        "floor_mean": round(statistics.mean(floor), 4),
    }
    console.print(result)
    if out is not None:
        out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
