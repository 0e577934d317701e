from __future__ import annotations

import pytest

from octavo.cli.load_generator import LoadResult, RequestTiming, percentiles


def test_percentiles_are_nearest_rank_in_milliseconds() -> None:
    values = [n / 1000 for n in range(1, 101)]
    assert percentiles(values) == {"mean": 50.5, "p50": 50.0, "p90": 90.0, "p99": 99.0}
    assert percentiles([0.002]) == {"mean": 2.0, "p50": 2.0, "p90": 2.0, "p99": 2.0}
    assert percentiles([]) == {}


def test_failed_requests_are_counted_and_not_timed() -> None:
    good = RequestTiming(0.1, [0.01, 0.03], 0.2, prompt_tokens=5, completion_tokens=3)
    bad = RequestTiming(seconds=9.0, error="429 queue_full")
    summary = LoadResult(2.0, [good, bad]).summary()
    assert (summary["succeeded"], summary["failed"]) == (1, 1)
    assert summary["errors"] == {"429 queue_full": 1}
    assert summary["output_tokens_per_second"] == 1.5
    assert summary["itl_ms"]["mean"] == pytest.approx(20.0)
    assert summary["tpot_ms"]["mean"] == pytest.approx(20.0)
    assert summary["e2e_ms"]["p99"] == 200.0


def test_requests_that_an_interruption_cut_off_are_told() -> None:
    assert LoadResult(2.0, [], unfinished=3).summary()["unfinished"] == 3
    assert "unfinished" not in LoadResult(2.0, []).summary()


def test_time_per_token_counts_answers_and_time_between_tokens_counts_tokens() -> None:
    """As vLLM has them: one figure of each answer, and one of each token after the first."""
    short = RequestTiming(0.1, [0.09], 0.2, completion_tokens=2)
    long = RequestTiming(0.1, [0.01] * 8, 0.2, completion_tokens=9)
    alone = RequestTiming(0.1, [], 0.1, completion_tokens=1)
    summary = LoadResult(2.0, [short, long, alone]).summary()
    assert summary["tpot_ms"]["mean"] == pytest.approx(50.0)
    assert summary["itl_ms"]["mean"] == pytest.approx(170.0 / 9, abs=0.001)
