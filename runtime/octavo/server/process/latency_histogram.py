"""Latency histogram: Prometheus' histogram for what is observed with every token.

The client library's own takes locks and looks through its buckets one by one, 2 µs a token; this one is
written by the event loop's thread alone, which also reads it out.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class LatencyHistogram(Collector):
    """One series, with the label `model`. `bounds` are the upper ones of its buckets, which grow."""

    def __init__(self, name: str, text: str, model: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._text = text
        self._model = model
        self._bounds = (*bounds, math.inf)
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0

    def observe(self, seconds: float, times: int = 1) -> None:
        """The same latency so many times, of tokens that came together."""
        self._counts[bisect_left(self._bounds, seconds)] += times
        self._sum += seconds * times

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._text, labels=["model"])
        total, buckets = 0, []
        for bound, count in zip(self._bounds, self._counts, strict=True):
            total += count
            name = floatToGoString(bound)  # type: ignore[no-untyped-call]
            buckets.append((name, float(total)))
        family.add_metric([self._model], buckets, self._sum)
        yield family
