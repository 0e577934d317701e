"""Sections that must tell something whatever time they get, and points that a cache must not answer."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu.context import Context
from benchmarks.gpu.results import Row
from benchmarks.gpu.scale import SMOKE
from benchmarks.gpu.sections import attention, throughput
from octavo.engine.messages import EngineStats


def make_context(rows: list[Row] | None = None) -> Context:
    return Context(
        scale=SMOKE,
        model="tiny-llama",
        folder=Path(),
        roofline=None,
        on_row=(rows if rows is not None else []).append,
        started=0.0,
    )


class Clock:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


class NeverFull:
    """An engine that admits a prompt in every step, half a second long, and always has more that wait."""

    def __init__(self, check: Callable[[], None], clock: Clock) -> None:
        self._check = check
        self._clock = clock
        self.output_tokens = 0

    @property
    def stats(self) -> EngineStats:
        return EngineStats(0, 1, 1, 0, 0, 0, 0, self.output_tokens, 0)

    def add(self, *_: Any, **__: Any) -> None:
        pass

    def step(self) -> list[Any]:
        self._check()
        self._clock.seconds += 0.5
        self.output_tokens += 1
        return []


@pytest.mark.parametrize(("budget", "window"), [(4.0, 0.5), (20.0, 5.5)])
def test_throughput_counts_what_the_time_allows_when_the_batch_does_not_fill(
    budget: float, window: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    monkeypatch.setattr(time, "perf_counter", clock)
    rows: list[Row] = []
    context = make_context(rows)
    context.scale = dataclasses.replace(SMOKE, saturated_window=60.0)
    context._engine = NeverFull(context.check, clock)  # type: ignore[assignment]
    context.begin(budget)
    result = throughput.run(context)
    assert [row["window_seconds"] for row in rows] == [window]
    assert rows[0]["output_tokens_per_second"] == 2
    assert any("not full" in note for note in result.notes)


@pytest.mark.parametrize(("batch", "length"), [(1, 20), (2, 64)])
def test_all_sets_of_a_point_together_outgrow_the_cache(
    batch: int, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make_context()
    heads = attention.Heads("tiny", 2, 1, 16)
    pool = attention.make_pool(context, heads)
    cache_bytes = 6 * pool[0].nbytes
    monkeypatch.setattr(attention, "l2_bytes", lambda _: cache_bytes)
    tables = attention.make_problem(context, heads, pool, batch, length).tables
    assert tables.numel() * pool[0].nbytes >= 2 * cache_bytes
    assert torch.unique(tables).numel() == tables.numel(), "no block is read twice"
