"""Our histogram tells what the client library's own would."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics
from prometheus_client.exposition import generate_latest

from octavo.server.process.latency_histogram import LatencyHistogram

BOUNDS = (0.001, 0.01, 0.25, 1, 5)
SECONDS = (0.0, 2**-10, 2**-9, 0.25, 3.0, 5.0, 99.5)
"""Whose sums are exact."""


@given(st.lists(st.tuples(st.sampled_from(SECONDS), st.integers(1, 3))))
def test_the_exposition_is_that_of_a_histogram(observed: list[tuple[float, int]]) -> None:
    disable_created_metrics()  # type: ignore[no-untyped-call]
    theirs, mine = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("name_seconds", "A text.", ["model"], buckets=BOUNDS, registry=theirs)
    child = histogram.labels("m")
    ours = LatencyHistogram("name_seconds", "A text.", "m", BOUNDS)
    mine.register(ours)
    for seconds, times in observed:
        ours.observe(seconds, times)
        for _ in range(times):
            child.observe(seconds)
    assert generate_latest(mine) == generate_latest(theirs)
