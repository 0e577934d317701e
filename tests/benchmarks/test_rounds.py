"""Ratios come from rounds in which all sides ran the same load."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.cpu.rounds import WARM_UP_TOKENS, Comparison, Row, bandwidth_shares, compare


class Side:
    """Answers with the next rate, and notes what it was given and when."""

    def __init__(self, name: str, rates: Sequence[float], log: list[str]) -> None:
        self._name = name
        self._rates = [0.001, *rates]  # the first run warms up
        self._log = log
        self.jobs: list[tuple[Sequence[Sequence[int]], int]] = []

    def run(self, prompts: Sequence[Sequence[int]], output_tokens: int) -> float:
        self._log.append(self._name)
        self.jobs.append((prompts, output_tokens))
        return self._rates[len(self.jobs) - 1]


def test_ratios_are_taken_within_rounds_and_the_fastest_of_a_name_counts() -> None:
    log: list[str] = []
    octavo = Side("octavo", [20, 30, 10], log)
    slow = Side("slow", [5, 10, 4], log)
    fast = Side("fast", [10, 6, 5], log)
    other = Side("other", [20, 60, 10], log)
    row = compare(
        octavo,
        [("transformers", slow), ("transformers", fast), ("llama.cpp", other)],
        model="m",
        concurrency=2,
        prompt_tokens=5,
        output_tokens=100,
        rounds=3,
    )
    assert row.octavo_tokens_per_second == 20
    transformers = row.baselines["transformers"]
    assert (transformers.ratio_min, transformers.ratio_median, transformers.ratio_max) == (2, 2, 3)
    assert transformers.tokens_per_second == 10
    assert row.baselines["llama.cpp"].ratio_median == 1
    assert [tokens for _, tokens in octavo.jobs] == [WARM_UP_TOKENS, 100, 100, 100]
    prompts = octavo.jobs[0][0]
    assert [len(prompt) for prompt in prompts] == [5, 5]
    assert all(job[0] == prompts for side in (slow, fast, other) for job in side.jobs)


def test_the_order_turns_so_that_nobody_is_always_first() -> None:
    log: list[str] = []
    sides = {name: Side(name, [1, 1, 1], log) for name in ("octavo", "a", "b")}
    compare(
        sides["octavo"],
        [("a", sides["a"]), ("b", sides["b"])],
        model="m",
        concurrency=1,
        prompt_tokens=1,
        output_tokens=10,
        rounds=3,
    )
    assert log[3:] == ["octavo", "a", "b", "a", "b", "octavo", "b", "octavo", "a"]


def test_a_share_of_bandwidth_is_what_a_token_reads_times_tokens() -> None:
    row = Row("m", 1, 5, 10, 1, 20.0, {"other": Comparison(10.0, 2, 2, 2)})
    assert bandwidth_shares(row, 10**9, 40e9) == {"octavo": 0.5, "other": 0.25}
