"""Seconds of work on a device: events on a GPU, the host's clock on a CPU; always the median of many.

Device work is asynchronous, so a host clock around a launch would time the launch alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch

_WARM_UPS = 2


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_seconds(
    calls: Sequence[Callable[[], object]], device: torch.device, repeats: int = 20
) -> float:
    """Median seconds of one of `calls`, which are run in turn.

    On a GPU they are captured into one CUDA graph, so that launch gaps do not count; several calls on
    different inputs keep the caches from answering.
    """
    for _ in range(_WARM_UPS):
        for call in calls:
            call()
    synchronize(device)
    if device.type != "cuda":
        return _host_seconds(calls)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    graph.replay()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(float(start.elapsed_time(end)) * 1e-3)
    return statistics.median(times) / len(calls)


def _host_seconds(calls: Sequence[Callable[[], object]]) -> float:
    times = []
    for _ in range(3):  # on a CPU these figures only show that the code runs
        start = time.perf_counter()
        for call in calls:
            call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) / len(calls)


def busy_seconds(intervals: Sequence[tuple[float, float]]) -> float:
    """Length of the union of (start, end) intervals: kernels on several streams may overlap."""
    total = 0.0
    reached = float("-inf")
    for start, end in sorted(intervals):
        if end > reached:
            total += end - max(start, reached)
            reached = end
    return total
