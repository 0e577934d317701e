"""Which sizes decode steps are recorded at, and in which order."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from octavo.worker.gpu.cuda_graphs import DecodeGraphs, padded_sizes


@pytest.mark.parametrize("most", [1, 2, 3, 5, 8, 24, 100, 128, 256, 300, 1024])
def test_sizes_rise_to_the_most_sequences_and_waste_little(most: int) -> None:
    sizes = padded_sizes(most)
    assert sizes == sorted(set(sizes))
    assert (sizes[0], sizes[-1]) == (1, most)
    for low, high in itertools.pairwise(sizes):
        assert high - low <= max(8, low)
        assert high - low <= 64


def test_the_largest_is_recorded_first_and_each_runs_as_padding() -> None:
    log: list[tuple[str, int]] = []

    def capture(work: Callable[[], None]) -> Callable[[], None]:
        work()
        return work

    graphs = DecodeGraphs(
        [1, 2, 4],
        lambda size: log.append(("run", size)),
        lambda size: log.append(("pad", size)),
        capture,
    )
    assert log == [(what, size) for size in (4, 2, 1) for what in ("pad", "run")]
    assert [graphs.size_for(n) for n in (1, 2, 3, 4, 5)] == [1, 2, 4, 4, None]
    log.clear()
    graphs.replay(2)
    assert log == [("run", 2)]
