"""The benchmark of the prefix cache's cost times what it says it does."""

from __future__ import annotations

import pytest

from benchmarks.cpu.models import DEMO
from benchmarks.scheduler.prefix_cache_cost import Load, TimedExecutor, measure
from octavo.config import Device, EngineConfig
from octavo.worker.batch import Executor
from octavo.worker.start.create import create_executor

TINY = Load(requests=3, prompt_tokens=40, output_tokens=3, max_num_seqs=2)


@pytest.fixture(scope="module")
def executor() -> Executor:
    return create_executor(
        EngineConfig(model=str(DEMO), device=Device.CPU, kv_cache_memory_bytes=8 * 2**20)
    )


def test_the_engines_own_time_is_a_part_of_all(executor: Executor) -> None:
    result = measure(executor, TINY, pairs=1)
    assert 0 < result["engine_seconds"] < result["total_seconds"]
    assert 0 < result["engine_seconds_with_cache"] < result["total_seconds"]


def test_a_load_that_hits_is_refused(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.Random.randrange", lambda self, *bounds: 7)
    with pytest.raises(RuntimeError, match="hits the prefix cache"):
        measure(executor, TINY, pairs=1)


def test_time_in_the_executor_is_counted(executor: Executor) -> None:
    timed = TimedExecutor(executor)
    assert timed.info is executor.info
    measure(timed, TINY, pairs=1)
    assert timed.seconds > 0
