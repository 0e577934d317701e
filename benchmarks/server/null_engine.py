"""Null engine: `python -m benchmarks.server.null_engine ADDRESS`, Octavo's engine process without a model.

Loop, scheduler, blocks and messages are the real ones. Only the executor is not: it answers each step at once
or at the clock's pace, with the token that names the step.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.server.step_clock import SYMBOLS, VARIABLE, StepClock
from octavo.config import EngineConfig
from octavo.engine.process import main
from octavo.sampling.state import SampledToken
from octavo.sleep_level import SleepLevel
from octavo.worker.batch import ExecutorInfo, FinishedStep, StepBatch

CORES = "OCTAVO_BENCHMARK_ENGINE_CORES"
_BLOCK_SIZE = 16


class NullExecutor:
    """Has a tokenizer's ids, room for all sequences at once, and no weights."""

    def __init__(self, config: EngineConfig, clock: StepClock) -> None:
        folder = Path(config.model)
        vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
        self._clock = clock
        self._token_ids = {symbol: vocabulary[symbol] for symbol in SYMBOLS}
        length = config.max_model_len or 2048
        self.info = ExecutorInfo(
            max_model_len=length,
            num_kv_blocks=config.max_num_seqs * -(-length // _BLOCK_SIZE),
            block_size=_BLOCK_SIZE,
            vocab_size=json.loads((folder / "config.json").read_text())["vocab_size"],
            dtype="none",
            device="none",
            phases={},
        )

    def submit(self, batch: StepBatch) -> FinishedStep:
        token_id = self._token_ids[self._clock.wait()]
        return FinishedStep(
            [
                SampledToken(entry.sequence_id, token_id)
                for entry in batch.entries
                if entry.sampling is not None
            ]
        )

    def sleep(self, level: SleepLevel) -> None:
        """There is nothing to give back."""

    def wake_up(self) -> None:
        """There is nothing to fetch."""


def create_null(config: EngineConfig, on_phase: Callable[[str], None]) -> NullExecutor:
    return NullExecutor(config, StepClock(Path(os.environ[VARIABLE])))


if __name__ == "__main__":
    if cores := os.environ.get(CORES):
        os.sched_setaffinity(0, set(map(int, cores.split(","))))
    sys.exit(main(sys.argv[1], create_null))
