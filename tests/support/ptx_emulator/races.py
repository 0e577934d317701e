"""Races: what threads do to the same memory without an order between them.

An emulator runs threads in some order and hides that a GPU promises none. In shared memory a barrier orders
two warps of a block. In global memory a barrier orders those of a block, and nothing those of two blocks but
a release and an acquire of one atomic variable (PTX ISA 8, memory consistency). Warps are taken as one thread
each, and a write that changes nothing does no harm.
"""

from __future__ import annotations

import numpy as np

_SEVERAL = 255
_WARP_BITS = 8
_EPOCH_BITS = 24


class RaceFault(Exception):  # noqa: N818 (beside the faults of a GPU)
    """Two accesses whose order a GPU does not promise."""


class SharedRaces:
    """Who has read and written each byte of some blocks' shared memory since the block's last barrier.

    Both are arrays of warps counted from 1; 0 is nobody.
    """

    def __init__(self, size: int) -> None:
        self.writers = np.zeros(size, np.uint8)
        self._readers = np.zeros(size, np.uint8)

    def read(self, places: np.ndarray, width: int, warps: np.ndarray) -> None:
        """`[accesses]`; raises RaceFault."""
        at, own = places[:, None] + np.arange(width), (warps + 1).astype(np.uint8)[:, None]
        writers = self.writers[at]
        if ((writers != 0) & (writers != own)).any():
            raise RaceFault(
                "shared memory is read that another warp has written since the last barrier"
            )
        readers = self._readers[at]
        alone = (readers == 0) | (readers == own)
        self._readers[at] = np.where(alone, own, _SEVERAL)
        crowded = self._readers[at] != own
        self._readers[at[crowded]] = _SEVERAL

    def write(self, places: np.ndarray, changed: np.ndarray, warps: np.ndarray) -> None:
        """Bytes that are about to become others: `changed` is `[accesses, width]`; raises RaceFault."""
        at, own = (
            places[:, None] + np.arange(changed.shape[1]),
            (warps + 1).astype(np.uint8)[:, None],
        )
        for who, what in ((self.writers[at], "written"), (self._readers[at], "read")):
            if (changed & (who != 0) & (who != own)).any():
                raise RaceFault(
                    f"shared memory is written that another warp has {what} since the last barrier"
                )
        self.writers[at] = own

    def pass_barrier(self, begin: int, end: int) -> None:
        """Of the block that has these bytes."""
        self.writers[begin:end] = 0
        self._readers[begin:end] = 0


def thread_code(block: np.ndarray, epoch: np.ndarray, warp: np.ndarray) -> np.ndarray:
    """A block's index in the grid, how many barriers it has passed, and a warp, as one number above 0."""
    return (block + 1).astype(np.int64) << _WARP_BITS + _EPOCH_BITS | epoch << _WARP_BITS | warp


NEXT_EPOCH = 1 << _WARP_BITS


class GlobalRaces:
    """Who has written each byte of a launch's tensors last, and which blocks know of which.

    Args:
        size: Bytes.
    """

    def __init__(self, size: int) -> None:
        self._writers = np.zeros(size, np.int64)
        # By address: of each block up to which epoch its writes have been released there.
        self._released: dict[int, dict[int, int]] = {}
        # By block: what it has acquired, and since which epoch of its own all its warps know.
        self._known: dict[int, dict[int, tuple[int, int]]] = {}

    def check(self, places: np.ndarray, width: int, threads: np.ndarray, what: str) -> None:
        """Before a read, or a write that changes something; raises RaceFault."""
        touched = (self._writers[places] != 0) | (self._writers[places + width - 1] != 0)
        if not touched.any():
            return
        places, threads = places[touched], threads[touched]
        writers = self._writers[places[:, None] + np.arange(width)]
        readers = np.broadcast_to(threads[:, None], writers.shape)
        open_ = (writers != 0) & (writers != readers)
        # Barriers order the warps of a block.
        same = writers >> _WARP_BITS + _EPOCH_BITS == readers >> _WARP_BITS + _EPOCH_BITS
        open_ &= ~(same & (writers >> _WARP_BITS < readers >> _WARP_BITS))
        for writer, reader in {*zip(writers[open_].tolist(), readers[open_].tolist(), strict=True)}:
            if not self._is_ordered(writer, reader):
                raise RaceFault(
                    f"{what} of what block {_block(writer)} has written, by block {_block(reader)}, and "
                    "nothing orders the two"
                )

    def _is_ordered(self, writer: int, reader: int) -> bool:
        limit, since = self._known.get(_block(reader), {}).get(_block(writer), (0, 0))
        return _epoch(writer) < limit and _epoch(reader) > since

    def wrote(self, places: np.ndarray, width: int, threads: np.ndarray) -> None:
        self._writers[places[:, None] + np.arange(width)] = threads[:, None]

    def synchronise(self, address: int, thread: int, *, acquires: bool, releases: bool) -> None:
        """An atomic operation: the writes before the block's last barrier are released with it."""
        block, epoch = _block(thread), _epoch(thread)
        known = self._known.setdefault(block, {})
        released = self._released.setdefault(address, {})
        if acquires:
            for other, limit in released.items():
                if limit > known.get(other, (0, 0))[0]:
                    known[other] = (limit, epoch)
        if releases:
            released[block] = epoch
            for other, (limit, since) in known.items():
                if since < epoch:
                    released[other] = max(limit, released.get(other, 0))


def _block(thread: int) -> int:
    return (thread >> _WARP_BITS + _EPOCH_BITS) - 1


def _epoch(thread: int) -> int:
    return thread >> _WARP_BITS & (1 << _EPOCH_BITS) - 1
