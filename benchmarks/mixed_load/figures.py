"""Figures of a mixed load, and the ratios of the rounds. Pure."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from benchmarks.mixed_load.load import Observed
from benchmarks.server.load import percentile


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one window.

    Args:
        inter_token_p50_ms, inter_token_p99_ms, inter_token_max_ms: Of all streams together; a gap lies
            between two arrivals of a stream, the second within the window, however many tokens it brought.
        first_token_ms: Of the prompts that arrived, the median.
        output_tokens_per_second: Of all streams, in the window.
    """

    inter_token_p50_ms: float
    inter_token_p99_ms: float
    inter_token_max_ms: float
    first_token_ms: float
    output_tokens_per_second: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure of Octavo's over another side's in the same round."""

    median: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Row:
    """All sides at one limit of a step's tokens.

    `sides` has medians of the rounds, `ratios` of each other side those of p99, first token and
    tokens/s, by the figure's name.
    """

    max_num_batched_tokens: int
    rounds: int
    sides: dict[str, Figures]
    ratios: dict[str, dict[str, Ratio]]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


COMPARED = ("inter_token_p99_ms", "first_token_ms", "output_tokens_per_second")


def figures_of(observed: Observed) -> Figures:
    """Those between tokens are 0 where none came within the window."""
    gaps: list[float] = []
    num_tokens = 0
    for arrivals in observed.arrivals:
        for (before, had), (now, has) in itertools.pairwise(arrivals):
            if 0 < now <= observed.seconds:
                gaps.append(now - before)
                num_tokens += has - had
    return Figures(
        inter_token_p50_ms=_ms(percentile(gaps, 0.5)),
        inter_token_p99_ms=_ms(percentile(gaps, 0.99)),
        inter_token_max_ms=_ms(max(gaps, default=0.0)),
        first_token_ms=_ms(statistics.median(observed.first_tokens)),
        output_tokens_per_second=round(num_tokens / observed.seconds, 2),
    )


def row_of(max_num_batched_tokens: int, ours: str, rounds: Sequence[Mapping[str, Figures]]) -> Row:
    """Medians of all sides, and the ratios of `ours` to each other one."""
    names = list(rounds[0])
    return Row(
        max_num_batched_tokens,
        len(rounds),
        {name: _median([each[name] for each in rounds]) for name in names},
        {
            name: {figure: _ratio(figure, ours, name, rounds) for figure in COMPARED}
            for name in names
            if name != ours
        },
    )


def _median(found: Sequence[Figures]) -> Figures:
    return Figures(
        **{
            field.name: round(statistics.median(getattr(each, field.name) for each in found), 2)
            for field in fields(Figures)
        }
    )


def _ratio(figure: str, ours: str, other: str, rounds: Sequence[Mapping[str, Figures]]) -> Ratio:
    ratios = [getattr(each[ours], figure) / getattr(each[other], figure) for each in rounds]
    return Ratio(
        median=round(statistics.median(ratios), 3),
        least=round(min(ratios), 3),
        most=round(max(ratios), 3),
    )


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 2)
