"""CUDA graphs. Decode steps of fixed sizes, recorded once and replayed: one launch instead of hundreds.

Of a small model's decode step the launches take longer than the arithmetic. A step of n sequences runs in
the smallest recorded size that holds it; the rest are padding rows, which read and write nothing.
"""

from __future__ import annotations

import gc
from bisect import bisect_left
from collections.abc import Callable

import torch

Replay = Callable[[], None]
Capture = Callable[[Callable[[], None]], Replay]


def padded_sizes(max_num_seqs: int) -> list[int]:
    """Ascending: dense where a row more costs a share of the step, sparse where it does not."""
    sizes = {1, 2, 4, *range(8, 32, 8), *range(32, 128, 16), *range(128, 256, 32)}
    sizes.update(range(256, max_num_seqs + 64, 64))
    return [*sorted(size for size in sizes if size < max_num_seqs), max_num_seqs]


class CudaCapture:
    """Records on a stream of its own, all into one memory pool.

    Recordings share the pool because they never run at once; largest first, the smaller ones fit into
    what it left. Each piece of work runs once before it is recorded, so that kernels are compiled and
    libraries have made their workspaces: NCCL connects ranks in its first sum of a kind, which no recording
    may hold.

    Args:
        is_shared: Ranks share the model. NCCL then has threads of its own in this process, which ask the
            device while it is recorded: that is forbidden to this thread alone.
    """

    def __init__(self, device: torch.device, *, is_shared: bool = False) -> None:
        self._mode = "thread_local" if is_shared else "global"
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Callable[[], None]) -> Replay:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            work()
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode=self._mode
        ):
            work()
        graph.replay()  # the first launch carries the recording to the device: no request waits for that
        return graph.replay


class DecodeGraphs:
    """The recorded sizes.

    Args:
        sizes: Ascending.
        run: Computes a decode step of exactly this many rows between fixed buffers.
        prepare: Makes every row of such a step a padding row.
        capture: Records; tests give one that returns the work itself.
    """

    def __init__(
        self,
        sizes: list[int],
        run: Callable[[int], None],
        prepare: Callable[[int], None],
        capture: Capture,
    ) -> None:
        self._sizes = sizes
        self._replays: dict[int, Replay] = {}
        # A collection in the middle could free a tensor of another pool, which a capture forbids.
        was_enabled = gc.isenabled()
        gc.collect()
        gc.disable()
        try:
            for size in reversed(sizes):
                prepare(size)
                self._replays[size] = capture(_bound(run, size))
        finally:
            if was_enabled:
                gc.enable()

    def size_for(self, num_seqs: int) -> int | None:
        """The smallest recorded size that holds so many sequences."""
        index = bisect_left(self._sizes, num_seqs)
        return self._sizes[index] if index < len(self._sizes) else None

    def replay(self, size: int) -> None:
        self._replays[size]()


def _bound(run: Callable[[int], None], size: int) -> Callable[[], None]:
    return lambda: run(size)
