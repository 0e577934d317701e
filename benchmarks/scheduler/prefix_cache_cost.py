"""`python -m benchmarks.scheduler.prefix_cache_cost`: what the prefix cache costs where it is of no use.

The demo model serves prompts that have nothing in common, in this process, in pairs of rounds with the cache
and without. The cache's work is the engine's own: its CPU time outside of the executor is taken for itself,
because the model's drifts by more from round to round than the cache costs.
"""

from __future__ import annotations

import gc
import json
import random
import statistics
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.cpu.hardware import describe_hardware
from benchmarks.cpu.models import DEMO
from octavo.config import Device, EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.messages import AddRequest
from octavo.sampling_params import SamplingParams
from octavo.sleep_level import SleepLevel
from octavo.worker.batch import Executor, ExecutorInfo, PendingStep, StepBatch
from octavo.worker.start.create import create_executor

console = Console()


class TimedExecutor:
    """Sums the CPU seconds that the process spends in an executor which is done when `submit` returns."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.seconds = 0.0

    @property
    def info(self) -> ExecutorInfo:
        return self._executor.info

    def sleep(self, level: SleepLevel) -> None:
        self._executor.sleep(level)

    def wake_up(self) -> None:
        self._executor.wake_up()

    def submit(self, batch: StepBatch) -> PendingStep:
        started = time.process_time()
        try:
            return self._executor.submit(batch)
        finally:
            self.seconds += time.process_time() - started


@dataclass(frozen=True, slots=True)
class Load:
    """`requests` at once; prompts of `prompt_tokens` tokens that differ from their first block on."""

    requests: int
    prompt_tokens: int
    output_tokens: int
    max_num_seqs: int


@dataclass(frozen=True, slots=True)
class Round:
    """CPU seconds of one load: of all, and of the engine outside of the executor."""

    total: float
    engine: float


def run_round(executor: Executor, load: Load, seed: int, *, caching: bool) -> Round:
    timed = TimedExecutor(executor)
    config = EngineConfig(
        model=str(DEMO), max_num_seqs=load.max_num_seqs, enable_prefix_caching=caching
    )
    core = EngineCore(config, timed)
    numbers = random.Random(seed)
    vocab_size = executor.info.vocab_size
    sampling = SamplingParams(temperature=0.0, max_tokens=load.output_tokens, ignore_eos=True)
    requests = [
        AddRequest(
            str(name),
            [numbers.randrange(5, vocab_size) for _ in range(load.prompt_tokens)],
            sampling,
        )
        for name in range(load.requests)
    ]
    gc.collect()
    started = time.process_time()
    for request in requests:
        core.add(request)
    while core.has_work:
        core.step()
    total = time.process_time() - started
    if core.stats().prefix_cache_hit_tokens_total:
        raise RuntimeError("The load hits the prefix cache: it measures nothing.")
    return Round(total, total - timed.seconds)


def measure(executor: Executor, load: Load, pairs: int) -> dict[str, Any]:
    rounds: dict[bool, list[Round]] = {True: [], False: []}
    for pair in range(pairs + 1):
        for caching in (True, False) if pair % 2 else (False, True):
            measured = run_round(executor, load, pair, caching=caching)
            if pair:  # the first one warms up
                rounds[caching].append(measured)
    cost = [
        (on.engine - off.engine) / off.total
        for on, off in zip(rounds[True], rounds[False], strict=True)
    ]
    return {
        **asdict(load),
        "pairs": pairs,
        "total_seconds": round(statistics.median(r.total for r in rounds[False]), 3),
        "engine_seconds": round(statistics.median(r.engine for r in rounds[False]), 4),
        "engine_seconds_with_cache": round(statistics.median(r.engine for r in rounds[True]), 4),
        "cost_share_median": round(statistics.median(cost), 5),
        "cost_share_min": round(min(cost), 5),
        "cost_share_max": round(max(cost), 5),
    }


def main(
    pairs: Annotated[int, typer.Option(help="pairs of rounds, with the cache and without")] = 9,
    out: Annotated[Path | None, typer.Option(help="JSON to write")] = None,
) -> None:
    executor = create_executor(EngineConfig(model=str(DEMO), device=Device.CPU))
    longest = executor.info.max_model_len
    loads = [
        Load(requests=64, prompt_tokens=128, output_tokens=128, max_num_seqs=32),
        # Hardly anything but prompts: the worst that can be.
        Load(requests=64, prompt_tokens=min(longest - 8, 448), output_tokens=4, max_num_seqs=32),
    ]
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": describe_hardware(),
        "model": "builtin-demo",
        "loads": [measure(executor, load, pairs) for load in loads],
    }
    console.print(result)
    if out is not None:
        out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
