"""Rounds. Times Octavo and its baselines in turn and makes ratios of each round. Pure but for the sides'
`run`."""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

WARM_UP_TOKENS = 8


class Side(Protocol):
    def run(self, prompts: Sequence[Sequence[int]], output_tokens: int) -> float:
        """Output tokens per second of this batch of equal prompts."""
        ...


@dataclass(frozen=True, slots=True)
class Comparison:
    """Octavo's rate over a baseline's: each round gives one ratio; rates are medians, in tokens/s."""

    tokens_per_second: float
    ratio_min: float
    ratio_median: float
    ratio_max: float


@dataclass(frozen=True, slots=True)
class Row:
    model: str
    concurrency: int
    prompt_tokens: int
    output_tokens: int
    rounds: int
    octavo_tokens_per_second: float
    baselines: dict[str, Comparison]
    bandwidth_shares: dict[str, float] = field(default_factory=dict)
    """Of what the cores read at most, what each side's output tokens/s read of weights, where it is one
    request: prefill counts against a side, keys and values in favour of none."""
    api_cpu_share: float = 0.0
    """Of all cores, what Octavo's API process used in the last round."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(
    octavo: Side,
    baselines: Sequence[tuple[str, Side]],
    *,
    model: str,
    concurrency: int,
    prompt_tokens: int,
    output_tokens: int,
    rounds: int,
) -> Row:
    """Every side runs the same load `rounds` times, in an order that turns by one each round.

    A few tokens before the first round warm everything up. Of baselines that share a name the fastest
    in each round counts.
    """
    numbers = random.Random(concurrency)
    prompts = [
        [numbers.randrange(3, 250) for _ in range(prompt_tokens)] for _ in range(concurrency)
    ]
    sides = [("octavo", octavo), *baselines]
    for _, side in sides:
        side.run(prompts, min(WARM_UP_TOKENS, output_tokens))
    rates: list[dict[str, float]] = []
    for number in range(rounds):
        best: dict[str, float] = {}
        first = number % len(sides)
        for name, side in sides[first:] + sides[:first]:
            best[name] = max(best.get(name, 0.0), side.run(prompts, output_tokens))
        rates.append(best)
    return Row(
        model=model,
        concurrency=concurrency,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        rounds=rounds,
        octavo_tokens_per_second=_median([rate["octavo"] for rate in rates]),
        baselines={
            name: _comparison(name, rates) for name in dict.fromkeys(name for name, _ in baselines)
        },
    )


def bandwidth_shares(row: Row, bytes_per_token: int, bandwidth: float) -> dict[str, float]:
    """See `Row`; `bandwidth` is in bytes/s."""
    rates = {"octavo": row.octavo_tokens_per_second}
    rates |= {name: other.tokens_per_second for name, other in row.baselines.items()}
    return {name: round(rate * bytes_per_token / bandwidth, 2) for name, rate in rates.items()}


def _comparison(name: str, rates: Sequence[Mapping[str, float]]) -> Comparison:
    ratios = [rate["octavo"] / rate[name] for rate in rates]
    return Comparison(
        tokens_per_second=_median([rate[name] for rate in rates]),
        ratio_min=round(min(ratios), 2),
        ratio_median=round(statistics.median(ratios), 2),
        ratio_max=round(max(ratios), 2),
    )


def _median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 3)
