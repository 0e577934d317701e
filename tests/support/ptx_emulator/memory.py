"""Memories of the emulated GPU: an access that a GPU faults on, or outside of the tensors, raises.

Both kinds are bytes in numpy; what nobody has written is all ones, which is NaN in every format and -1 or
the largest integer elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .races import GlobalRaces, RaceFault, SharedRaces

_GUARD = 4096
_GLOBAL_WINDOW = 0x7_0000_0000


class AccessFault(Exception):  # noqa: N818 (what a GPU calls it)
    """An access outside of the memory that the launch was given, or one at a wrong alignment."""


class Bytes:
    """Memory that is read and written a few bytes at many places at a time."""

    def __init__(self, data: np.ndarray) -> None:
        self.data = data
        self._views: dict[int, np.ndarray] = {}

    def _view(self, width: int) -> np.ndarray:
        """Element i holds the `width` bytes from i on."""
        view = self._views.get(width)
        if view is None:
            dtype = np.dtype(f"u{width}") if width <= 8 else np.dtype(f"V{width}")
            count = max(self.data.size - width + 1, 0)
            view = np.ndarray((count,), dtype, self.data, strides=(1,))
            self._views[width] = view
        return view

    def read(self, places: np.ndarray, width: int) -> np.ndarray:
        """`[places]` of `width` bytes each."""
        return self._view(width)[places]

    def write(self, places: np.ndarray, values: np.ndarray) -> None:
        """The values' item size is the width of the access; of several to one place the last stays."""
        view = self._view(values.dtype.itemsize)
        view[places] = values.view(view.dtype)


@dataclass(frozen=True)
class _Piece:
    """A tensor's memory within the arena."""

    begin: int
    end: int
    tensor: torch.Tensor


class GlobalMemory:
    """Copies of a launch's tensors, far from each other, at addresses of the same alignment.

    Args:
        tensors: By the name of the argument; views of one storage stay views of one.
    """

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self._storages: dict[int, _Piece] = {}
        cursor = _GUARD
        for tensor in tensors.values():
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self._storages:
                begin = cursor + (storage.data_ptr() - cursor) % 256
                self._storages[storage.data_ptr()] = _Piece(begin, begin + storage.nbytes(), tensor)
                cursor = begin + storage.nbytes() + _GUARD
        self._bytes = Bytes(np.full(cursor, 0xFF, np.uint8))
        self._valid = np.zeros(cursor, np.bool_)
        self._extents: dict[str, tuple[int, int]] = {}
        self.races = GlobalRaces(cursor)
        for piece in self._storages.values():
            self._bytes.data[piece.begin : piece.end] = _bytes_of(piece.tensor)
        for name, tensor in tensors.items():
            begin = self.address(tensor) - _GLOBAL_WINDOW
            # To the end of the last row, where rows lie apart: what is between them may be read in vectors.
            rows = max(
                (n * s for n, s in zip(tensor.shape, tensor.stride(), strict=True)), default=1
            )
            whole = self._storages[tensor.untyped_storage().data_ptr()]
            end = min(begin + rows * tensor.element_size(), whole.end) if tensor.numel() else begin
            self._valid[begin:end] = True
            self._extents[name] = (begin, end)

    def address(self, tensor: torch.Tensor) -> int:
        """Of its first element, for the kernel."""
        storage = tensor.untyped_storage().data_ptr()
        return _GLOBAL_WINDOW + self._storages[storage].begin + tensor.data_ptr() - storage

    def write_back(self) -> None:
        """What the launch has left becomes the tensors' values."""
        for piece in self._storages.values():
            _bytes_of(piece.tensor)[:] = self._bytes.data[piece.begin : piece.end]

    def read(self, addresses: np.ndarray, width: int, threads: np.ndarray) -> np.ndarray:
        """`[accesses]` of `width` bytes each, by these threads (`races.thread_code`)."""
        places = self._checked(addresses, width)
        self.races.check(places, width, threads, "a read")
        return self._bytes.read(places, width)

    def write(self, addresses: np.ndarray, values: np.ndarray, threads: np.ndarray) -> None:
        """The item size of the values is the width of the access."""
        width = values.dtype.itemsize
        places = self._checked(addresses, width)
        changes = self._bytes.read(places, width) != values
        self.races.check(places[changes], width, threads[changes], "an overwriting")
        self._bytes.write(places, values)
        if (self._bytes.read(places, width) != values).any():
            raise RaceFault("several threads write different values to one place of global memory")
        self.races.wrote(places, width, threads)

    def add(self, address: int, value: np.number) -> np.number:
        """Atomically; returns what was there before."""
        place = self._checked(np.array([address]), value.dtype.itemsize)
        before = self._bytes.read(place, value.dtype.itemsize).view(value.dtype)
        self._bytes.write(place, before + value)
        return before[0]

    def _checked(self, addresses: np.ndarray, width: int) -> np.ndarray:
        places = addresses.astype(np.int64) - _GLOBAL_WINDOW
        if (places % width).any():
            self._fault("misaligned", places[places % width != 0], width)
        inside = (places >= 0) & (places <= self._valid.size - width)
        clipped = np.where(inside, places, 0)
        inside &= self._valid[clipped] & self._valid[clipped + (width - 1)]
        if not inside.all():
            self._fault("outside of every tensor", places[~inside], width)
        return places

    def _fault(self, what: str, places: np.ndarray, width: int) -> None:
        place = int(places[0])
        near = min(
            self._extents,
            key=lambda name: max(self._extents[name][0] - place, place - self._extents[name][1], 0),
        )
        begin, end = self._extents[near]
        raise AccessFault(
            f"{len(places)} accesses of {width} bytes {what}; the first is at byte {place - begin} of "
            f"`{near}` of {end - begin} bytes"
        )


def _bytes_of(tensor: torch.Tensor) -> np.ndarray:
    """Those of the whole storage, shared with it."""
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage()).numpy()


class SharedMemory:
    """That of several thread blocks, each with its own.

    Args:
        size: Bytes of one block's.
        window: The address at which each begins.
    """

    def __init__(self, num_blocks: int, size: int, window: int) -> None:
        self._size = size
        self._window = window
        self._stride = -(-size // 16) * 16 + 16
        total = num_blocks * self._stride
        self._bytes = Bytes(np.full(total, 0xFF, np.uint8))
        self._unfenced = np.zeros(total, np.bool_)
        self._races = SharedRaces(total)
        self._draw = np.random.default_rng(0)

    def places(self, blocks: np.ndarray, addresses: np.ndarray, width: int) -> np.ndarray:
        """Where the bytes at a block's addresses lie, `[accesses]`.

        Raises:
            AccessFault: Outside of the block's memory, or not a multiple of the access's width.
        """
        inner = addresses.astype(np.int64) - self._window
        wrong = (inner < 0) | (inner + width > self._size)
        if wrong.any():
            raise AccessFault(
                f"{int(wrong.sum())} accesses of {width} bytes outside of {self._size} bytes of shared "
                f"memory; the first is at {int(inner[wrong][0])}"
            )
        if (inner % width).any():
            raise AccessFault(
                f"accesses of {width} bytes of shared memory misaligned; the first is at "
                f"{int(inner[inner % width != 0][0])}"
            )
        return blocks * self._stride + inner

    def read(self, places: np.ndarray, width: int, warps: np.ndarray) -> np.ndarray:
        """`[accesses]` of `width` bytes each, by these warps of their blocks."""
        self._races.read(places, width, warps)
        return self._bytes.read(places, width)

    def write(self, places: np.ndarray, values: np.ndarray, warps: np.ndarray) -> None:
        """The item size of the values is the width of the access."""
        width = values.dtype.itemsize
        before = self._bytes.read(places, width).view(np.uint8).reshape(-1, width)
        after = np.ascontiguousarray(values).view(np.uint8).reshape(-1, width)
        self._races.write(places, before != after, warps)
        self._bytes.write(places, values)
        lost = (self._bytes.read(places, width).view(np.uint8).reshape(-1, width) != after).any(1)
        if lost.any():
            # Lanes of a warp may: sums of one row, each rounded in its own order. One of them stays.
            self._races.write(
                places[lost], np.ones((int(lost.sum()), width), np.bool_), warps[lost]
            )
            order = self._draw.permutation(len(places))
            self._bytes.write(places[order], np.broadcast_to(values, places.shape)[order])
        self._unfenced[places[:, None] + np.arange(width)] = True

    def peek(self, places: np.ndarray, width: int) -> np.ndarray:
        """As `read`, by nobody."""
        return self._bytes.read(places, width)

    def read_asynchronously(self, places: np.ndarray, width: int) -> np.ndarray:
        """As a warpgroup's product does, which sees what was written before a fence and then a barrier."""
        at = places[:, None] + np.arange(width)
        if self._unfenced[at].any():
            raise RaceFault(
                "a product reads shared memory that no `fence.proxy.async` has shown to it"
            )
        if self._races.writers[at].any():
            raise RaceFault("a product reads shared memory that was written since the last barrier")
        return self._bytes.read(places, width)

    def fence(self, blocks: np.ndarray) -> None:
        """What these blocks have written can be read asynchronously."""
        self._unfenced.reshape(-1, self._stride)[blocks] = False

    def pass_barrier(self, blocks: np.ndarray) -> None:
        """All threads of each of these blocks know what the others have done."""
        for block in blocks:
            self._races.pass_barrier(block * self._stride, (block + 1) * self._stride)
