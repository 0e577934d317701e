"""Loads are the same for every side, and what percentiles and busy time say of them is right."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from benchmarks.gpu.loads import against_baselines, mixed, percentiles, poisson, stationary
from benchmarks.gpu.scale import FULL
from benchmarks.gpu.timing import busy_seconds


def test_the_mix_is_the_same_every_time_and_spans_its_range() -> None:
    loads = mixed(FULL)
    assert loads == mixed(FULL)
    assert len(loads) == 256
    prompts = [load.prompt_tokens for load in loads]
    assert min(prompts) in range(100, 130)
    assert max(prompts) in range(1000, 1025)


def test_baselines_run_shorter_requests_of_mixed_lengths() -> None:
    loads = against_baselines(FULL)
    assert [len(loads[name]) for name in ("single", "static batch", "paged")] == [1, 32, 64]
    outputs = [load.output_tokens for load in loads["paged"]]
    assert min(outputs) >= 100
    assert 450 < max(outputs) <= 512


def test_a_stationary_batch_has_requests_of_all_ages_that_end_at_one_length() -> None:
    loads = stationary(FULL)
    assert {load.prompt_tokens + load.output_tokens for load in loads} == {2000}
    outputs = sorted(load.output_tokens for load in loads)
    assert outputs[0] <= 8
    assert outputs[-1] == 1000
    gaps = {later - earlier for earlier, later in pairwise(outputs)}
    assert gaps <= {3, 4}  # 1000 tokens over 256 requests


def test_arrivals_come_at_the_rate_in_order_and_within_the_window() -> None:
    scale = replace(FULL, rate_window=1000.0)
    arrivals = [load.arrival for load in poisson(scale, 4.0)]
    assert arrivals == sorted(arrivals)
    assert arrivals[-1] < 1000
    assert len(arrivals) == pytest.approx(4000, rel=0.06)
    assert poisson(FULL, 4.0) == poisson(FULL, 4.0)


def test_percentiles_are_nearest_ranks_in_milliseconds() -> None:
    values = [number / 1000 for number in range(100, 0, -1)]
    assert percentiles(values) == {"p50_ms": 50.0, "p90_ms": 90.0, "p99_ms": 99.0}
    assert percentiles([]) == {"p50_ms": None, "p90_ms": None, "p99_ms": None}


def test_kernels_that_overlap_count_once() -> None:
    assert busy_seconds([(4, 5), (0, 2), (1, 3), (1.5, 1.6)]) == pytest.approx(4)
    assert busy_seconds([]) == 0
