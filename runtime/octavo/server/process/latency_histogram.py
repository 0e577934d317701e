"""Latency histogram: Prometheus' histogram for what is observed with every token.

The client library's own takes locks and looks through its buckets one by one, 2 µs a token; this one is
written by the event loop's thread alone, which also reads it out.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, MutableSequence, Sequence
from typing import TypeAlias

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Cells: TypeAlias = "MutableSequence[float] | memoryview[float]"


class LatencyHistogram(Collector):
    """One series, with the label `model`.

    Args:
        bounds: The upper ones of its buckets, which grow.
        cells: Where it counts: `num_cells` numbers, of its buckets and then the sum; by default its
            own.
    """

    def __init__(
        self,
        name: str,
        text: str,
        model: str,
        bounds: Sequence[float],
        cells: Cells | None = None,
    ) -> None:
        self._name = name
        self._text = text
        self._model = model
        self._bounds = (*bounds, math.inf)
        self._cells = [0.0] * self.num_cells if cells is None else cells

    @property
    def num_cells(self) -> int:
        return len(self._bounds) + 1

    def observe(self, seconds: float, times: int = 1) -> None:
        """The same latency so many times, of tokens that came together."""
        cells = self._cells
        cells[bisect_left(self._bounds, seconds)] += times
        cells[-1] += seconds * times

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._text, labels=["model"])
        total, buckets = 0.0, []
        for bound, count in zip(self._bounds, self._cells[:-1], strict=True):
            total += count
            name = floatToGoString(bound)  # type: ignore[no-untyped-call]
            buckets.append((name, total))
        family.add_metric([self._model], buckets, self._cells[-1])
        yield family
