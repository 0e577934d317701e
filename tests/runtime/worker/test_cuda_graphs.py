"""Which sizes decode steps are recorded at, and in which order."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator

import pytest
import torch

from octavo.worker.compile_ahead.absent_gpu import absent_gpu
from octavo.worker.gpu.cuda_graphs import CudaCapture, DecodeGraphs, padded_sizes
from tests.support.runtime.gpu_shapes import H100


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


@pytest.mark.parametrize(("is_shared", "mode"), [(False, "global"), (True, "thread_local")])
def test_work_runs_before_it_is_recorded_and_nccls_threads_go_on(
    is_shared: bool, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first sum connects ranks, and its threads ask the device meanwhile; of CUDA the order is all."""
    log: list[str] = []

    @contextlib.contextmanager
    def graph(*_: object, capture_error_mode: str, **__: object) -> Iterator[None]:
        log.append(f"record {capture_error_mode}")
        yield
        log.append("recorded")

    with absent_gpu(H100) as device:
        monkeypatch.setattr(torch.cuda, "graph", graph)
        CudaCapture(device, is_shared=is_shared)(lambda: log.append("work"))
    assert log == ["work", f"record {mode}", "work", "recorded"]
