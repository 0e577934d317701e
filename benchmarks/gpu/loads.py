"""Requests and their arrival times. Seeded and pure: every side and every run gets the same load."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from benchmarks.gpu.scale import Scale


@dataclass(frozen=True, slots=True)
class Load:
    """One request: how many tokens in and out, and when it arrives in seconds from the start."""

    prompt_tokens: int
    output_tokens: int
    arrival: float = 0.0


def mixed(scale: Scale) -> list[Load]:
    """The mix: prompts and outputs uniform between the shortest and the longest, all there at once."""
    return _uniform(scale.mix_requests, scale.mix_shortest, scale.mix_longest)


def against_baselines(scale: Scale) -> dict[str, list[Load]]:
    """What transformers and Octavo both run, by name: one request; the requests of one static batch; those
    of `generate_batch`. Shorter than the mix, because a baseline takes several times as long."""
    requests = max(scale.static_batch, scale.paged_requests)
    loads = _uniform(requests, scale.mix_shortest, scale.baseline_longest)
    return {
        "single": [Load(scale.single_prompt, scale.single_output)],
        "static batch": loads[: scale.static_batch],
        "paged": loads[: scale.paged_requests],
    }


def _uniform(count: int, shortest: int, longest: int) -> list[Load]:
    numbers = random.Random(20)
    return [
        Load(numbers.randint(shortest, longest), numbers.randint(shortest, longest))
        for _ in range(count)
    ]


def stationary(scale: Scale) -> list[Load]:
    """A full batch as it stands in the middle of a long run: each request at an age of its own.

    A request of age a has a tokens of its output behind it, so here they belong to its prompt. Started
    all at once instead, equal requests would end in the same step.
    """
    count = scale.max_num_seqs
    ages = [index * scale.saturated_output // count for index in range(count)]
    return [Load(scale.saturated_prompt + age, scale.saturated_output - age) for age in ages]


def poisson(scale: Scale, rate: float) -> list[Load]:
    """Arrivals of a Poisson process of `rate` requests per second over the scale's window."""
    numbers = random.Random(f"poisson {rate}")
    loads: list[Load] = []
    now = numbers.expovariate(rate)
    low, high = scale.mix_shortest, scale.mix_longest
    while now < scale.rate_window:
        loads.append(Load(numbers.randint(low, high), numbers.randint(low, high // 4 + low), now))
        now += numbers.expovariate(rate)
    return loads


def percentiles(values: list[float]) -> dict[str, float | None]:
    """p50, p90 and p99 (nearest rank) of values in seconds, as milliseconds; None of no values."""
    names = {f"p{percent}_ms": percent for percent in (50, 90, 99)}
    if not values:
        return dict.fromkeys(names)
    found = np.percentile(values, list(names.values()), method="inverted_cdf")
    return {name: round(float(value) * 1e3, 2) for name, value in zip(names, found, strict=True)}
