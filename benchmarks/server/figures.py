"""Figures: what one turn of one side gives, and the ratios of the rounds. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from benchmarks.server.load import Load, Measured, percentile

_FLOOD_TOKENS_PER_SECOND = 100_000
_PACED_TOKENS_PER_SECOND = 4000
_STEADY_SECONDS = 1.0
_STEADY_STEPS = 8


@dataclass(frozen=True, slots=True)
class Turn:
    """One side's figures at one number of streams.

    Args:
        requests_per_second: Of requests for one token, as fast as the server takes them.
        request_us: CPU time of the API process for each of those.
        tokens_per_second: While the model makes 100,000, requests included.
        events_per_second: Then; less than tokens where a server puts several into one event.
        token_us: CPU time of the API process for each token behind a request's first, at a pace that leaves
            it idle at times, so that each token comes alone.
        first_token_p50_ms, first_token_p99_ms: Of the requests for one token.
        age_p50_ms, age_p99_ms: Of tokens when they arrive, at that pace.
    """

    requests_per_second: float
    request_us: float
    tokens_per_second: float
    events_per_second: float
    token_us: float
    first_token_p50_ms: float
    first_token_p99_ms: float
    age_p50_ms: float
    age_p99_ms: float


@dataclass(frozen=True, slots=True)
class Ran:
    """A load, what came, and the API process's CPU seconds meanwhile."""

    load: Load
    measured: Measured
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """Octavo's figure over another side's in the same round."""

    median: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Row:
    """All sides at one number of streams: medians of the rounds; Octavo's tokens/s as ratios to others."""

    streams: int
    sides: dict[str, Turn]
    ratios: dict[str, Ratio]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def short_load(streams: int, *, is_smoke: bool = False) -> Load:
    """Requests for one token."""
    return Load(streams, 2 if is_smoke else max(1, 512 // streams), 1)


def flood_load(streams: int, *, is_smoke: bool = False) -> Load:
    """Tokens faster than any server sends them, in steps of all streams, as a model makes them."""
    if is_smoke:
        return Load(streams, 1, 8)
    period = 0.0 if streams == 1 else streams / _FLOOD_TOKENS_PER_SECOND
    return Load(streams, 8 if streams == 1 else 1, max(64, min(256, 65536 // streams)), period)


def paced_load(streams: int, requests_per_second: float, *, is_smoke: bool = False) -> Load:
    """Tokens at a pace of 4,000 a second, or 100 of one stream; as many as it takes until all streams run,
    and some more.

    Args:
        requests_per_second: What the side takes.
    """
    if is_smoke:
        return Load(streams, 1, 8, period=0.01)
    period = max(0.01, streams / _PACED_TOKENS_PER_SECOND)
    num_until_all_run = streams / requests_per_second / period
    wanted = max(_STEADY_STEPS, int(_STEADY_SECONDS / period))
    return Load(streams, 1, min(1024, int(1.5 * num_until_all_run) + wanted), period=period)


def turn_of(short: Ran, flood: Ran, paced: Ran) -> Turn:
    request_seconds = short.cpu_seconds / short.load.num_tokens
    num_requests = paced.load.streams * paced.load.requests
    token_seconds = paced.cpu_seconds - request_seconds * num_requests
    first = short.measured.first_token
    return Turn(
        requests_per_second=_rounded(len(first) / short.measured.seconds),
        request_us=_rounded(request_seconds * 1e6),
        tokens_per_second=_rounded(flood.load.num_tokens / flood.measured.seconds),
        events_per_second=_rounded(flood.measured.events / flood.measured.seconds),
        token_us=_rounded(token_seconds / (paced.load.num_tokens - num_requests) * 1e6),
        first_token_p50_ms=_rounded(percentile(first, 0.5) * 1e3),
        first_token_p99_ms=_rounded(percentile(first, 0.99) * 1e3),
        age_p50_ms=_rounded(percentile(paced.measured.ages, 0.5) * 1e3),
        age_p99_ms=_rounded(percentile(paced.measured.ages, 0.99) * 1e3),
    )


def row_of(streams: int, ours: str, rounds: Sequence[Mapping[str, Turn]]) -> Row:
    """Args:
    ours: The side that the others are held against.
    """
    names = list(rounds[0])
    sides = {
        name: Turn(
            **{
                field.name: _rounded(
                    statistics.median(getattr(turns[name], field.name) for turns in rounds)
                )
                for field in fields(Turn)
            }
        )
        for name in names
    }
    ratios = {}
    for name in names:
        if name != ours:
            found = [
                turns[ours].tokens_per_second / turns[name].tokens_per_second for turns in rounds
            ]
            ratios[name] = Ratio(
                *(round(each, 2) for each in (statistics.median(found), min(found), max(found)))
            )
    return Row(streams, sides, ratios)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
