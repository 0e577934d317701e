"""The mixed load's arithmetic, and that it runs: streams over HTTP while prompts arrive."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.mixed_load.__main__ import main
from benchmarks.mixed_load.figures import Figures, Ratio, figures_of, row_of
from benchmarks.mixed_load.load import MixedLoad, Observed


def test_a_gap_counts_where_it_ends_within_the_window() -> None:
    first = [(-0.5, 3), (0.1, 4), (0.2, 5), (1.2, 7), (2.1, 8)]
    second = [(-0.1, 3), (0.3, 4), (0.6, 5), (0.8, 6)]
    found = figures_of(Observed([first, second], [0.9, 0.4, 0.5], 2.0, 0))
    # 600, 100 and 1,000 ms of the one, 400, 300 and 200 of the other.
    assert (found.inter_token_p50_ms, found.inter_token_p99_ms) == pytest.approx((300, 1000))
    assert found.inter_token_max_ms == pytest.approx(1000)
    assert found.first_token_ms == 500
    assert found.output_tokens_per_second == (1 + 1 + 2 + 3) / 2


def test_ratios_are_taken_within_rounds() -> None:
    def figures(p99: float, rate: float) -> Figures:
        return Figures(1.0, p99, 2 * p99, 100.0, rate)

    rounds = [
        {"octavo": figures(50, 8), "vllm": figures(100, 10)},
        {"octavo": figures(90, 6), "vllm": figures(60, 12)},
        {"octavo": figures(80, 9), "vllm": figures(80, 9)},
    ]
    row = row_of(512, "octavo", rounds)
    assert row.sides["octavo"].inter_token_p99_ms == 80
    assert row.ratios["vllm"]["inter_token_p99_ms"] == Ratio(1.0, 0.5, 1.5)
    assert row.ratios["vllm"]["output_tokens_per_second"] == Ratio(0.8, 0.5, 1.0)


def test_every_round_has_the_same_texts_and_no_two_begin_alike() -> None:
    load = MixedLoad(streams=3, stream_tokens=20, prompts=2, prompt_tokens=30)
    streams, prompts = load.texts()
    assert (streams, prompts) == load.texts()
    assert [len(each) for each in streams + prompts] == [20, 20, 20, 30, 30]
    assert len({tuple(each[:16]) for each in streams + prompts}) == 5


def test_every_figure_comes_and_a_missing_peer_is_named(tmp_path: Path) -> None:
    out = tmp_path / "mixed.json"
    main(pairs=1, smoke=True, out=out)
    found = json.loads(out.read_text())
    assert found["is_smoke"] is True
    assert found["sides"]["vllm"] == "not measured: not installed"
    (row,) = found["rows"]
    (side,) = row["sides"].values()
    assert side["first_token_ms"] > 0
    assert side["inter_token_p50_ms"] <= side["inter_token_p99_ms"] <= side["inter_token_max_ms"]
