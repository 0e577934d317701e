"""Arithmetic of the server's benchmark, and the clock by which tokens tell their age."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.fair_share import row_of as fair_row_of
from benchmarks.server.figures import Ran, Ratio, Turn, paced_load, row_of, turn_of
from benchmarks.server.load import Load, Measured, is_in_order, percentile
from benchmarks.server.step_clock import SYMBOLS, StepClock


def turn(tokens_per_second: float) -> Turn:
    load = Load(2, 1, 100)
    seconds = load.num_tokens / tokens_per_second
    short = Ran(Load(2, 5, 1), Measured(2.0, 20, [0.001] * 5 + [0.003] * 5), 0.01)
    paced = Ran(Load(2, 1, 11, 0.01), Measured(1.0, 22, [0.1, 0.1], [0.001, 0.004]), 0.004)
    return turn_of(short, Ran(load, Measured(seconds, 50, []), 1.0), paced)


def test_a_token_costs_what_is_left_when_the_requests_are_paid() -> None:
    found = turn(400.0)
    assert found.requests_per_second == 5
    assert found.request_us == 1000
    assert (found.tokens_per_second, found.events_per_second) == (400, 100)
    # 4 ms for two requests and twenty more tokens.
    assert found.token_us == 100
    assert (found.first_token_p50_ms, found.first_token_p99_ms) == (1, 3)
    assert (found.age_p50_ms, found.age_p99_ms) == (1, 4)


def test_ratios_are_taken_within_rounds() -> None:
    rounds = [
        {"octavo": turn(ours), "bare": turn(bare)} for ours, bare in ((30, 60), (80, 100), (10, 10))
    ]
    row = row_of(2, "octavo", rounds)
    assert row.sides["octavo"].tokens_per_second == 30
    assert row.ratios == {"bare": Ratio(0.8, 0.5, 1.0)}


def test_a_pace_lasts_until_all_streams_run() -> None:
    load = paced_load(400, requests_per_second=100)
    assert load.period == pytest.approx(0.1)
    assert load.tokens * load.period > 400 / 100 + 0.5


def test_a_percentile_is_a_value_that_occurred() -> None:
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1)) == (
        50,
        99,
        100,
    )
    assert (percentile([7.0], 0.99), percentile([], 0.5)) == (7.0, 0.0)


def test_a_token_tells_the_step_that_made_it(tmp_path: Path) -> None:
    ours = StepClock(tmp_path / "clock")
    theirs = StepClock(tmp_path / "clock")
    made = [theirs.stamp() for _ in range(3 * len(SYMBOLS) + 5)]
    first = len(made) - 10
    assert ours.latest_with(made[first]) == first
    assert ours.latest_with(made[-1]) == len(made) - 1
    times = [ours.time_of(step) for step in range(len(made))]
    assert times == sorted(times)
    ours.period = 60.0
    assert 59 < theirs.seconds_to_next() <= 60


def test_tokens_that_were_lost_or_doubled_are_seen() -> None:
    assert is_in_order("89AB", 4)
    assert not is_in_order("89B", 3)
    assert not is_in_order("89AA", 4)
    assert not is_in_order("89A", 4)


def test_the_ratio_of_a_key_s_waits_is_that_of_medians() -> None:
    row = fair_row_of(16, [0.1, 0.2, 0.9], [0.5, 0.3, 0.1], 4.0, 7)
    assert (row.alone, row.beside, row.ratio) == (0.2, 0.3, 1.5)
    assert (row.alone_longest, row.beside_longest, row.same_key, row.left) == (0.9, 0.5, 4.0, 7)
