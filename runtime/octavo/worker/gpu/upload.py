"""Upload. The way of a step's numbers to the device: pinned buffers in rotation, one copy a step, no
waiting."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.kernels.packed_step import Packer

# Step n + 1 is packed while the copy of step n may still run, and one more is in reserve.
_NUM_BUFFERS = 3


@dataclass(slots=True)
class _HostBuffer:
    """`copied` is recorded behind the last copy out of `tensor`."""

    tensor: torch.Tensor
    copied: torch.cuda.Event | None


class Uploader:
    """Owns the host buffers and the device's copy.

    The device has one buffer: the copy is queued on the stream that reads it, so it waits there for the
    step before. Both grow when a step needs more, which a burst of long prompts may.

    Args:
        capacity: Elements to begin with.
    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        self._device = device
        self._is_cuda = device.type == "cuda"
        self._buffers = [self._make_buffer(capacity) for _ in range(_NUM_BUFFERS)]
        self._packed = torch.zeros(capacity, dtype=torch.int32, device=device)
        self._next = 0

    def upload(self, packer: Packer) -> torch.Tensor:
        """The packed numbers, int32 on the device, valid for work that is queued before the next call."""
        buffer = self._buffers[self._next]
        self._next = (self._next + 1) % _NUM_BUFFERS
        if buffer.copied is not None:
            buffer.copied.synchronize()  # two steps ago: long done
        size = packer.size
        if buffer.tensor.shape[0] < size:
            buffer.tensor = self._host(2 * size)
        if self._packed.shape[0] < size:
            self._packed = torch.zeros(2 * size, dtype=torch.int32, device=self._device)
        packer.write(buffer.tensor.numpy())
        self._packed[:size].copy_(buffer.tensor[:size], non_blocking=True)
        if buffer.copied is not None:
            buffer.copied.record()
        return self._packed

    def _make_buffer(self, capacity: int) -> _HostBuffer:
        copied = torch.cuda.Event() if self._is_cuda else None  # type: ignore[no-untyped-call]
        return _HostBuffer(self._host(capacity), copied)

    def _host(self, capacity: int) -> torch.Tensor:
        return torch.zeros(capacity, dtype=torch.int32, pin_memory=self._is_cuda)
