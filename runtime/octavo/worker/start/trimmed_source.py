"""Trimmed source: weights whose reading leaves nothing behind in the C library.

Each tensor passes through buffers on its way to its final form. What these leave free between things that
stay is kept by the process, and grows with a model's layers: 400 MiB beside 1 GiB of int4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from octavo.loading import Slice, WeightSource
from octavo.loading.view import SourceView
from octavo.worker.machine import return_freed_memory

_PERIOD_BYTES = 2**26


class TrimmedSource(SourceView):
    """Gives freed memory back to the system each time that so many bytes were read.

    Args:
        give_back: Does it.
    """

    def __init__(
        self, source: WeightSource, give_back: Callable[[], None] = return_freed_memory
    ) -> None:
        super().__init__(source)
        self._give_back = give_back
        self._read_bytes = 0

    def tensors(
        self, shapes: Mapping[str, tuple[int, ...]], part: Slice | None = None
    ) -> list[torch.Tensor]:
        if self._read_bytes >= _PERIOD_BYTES:
            self._read_bytes = 0
            self._give_back()
        found = super().tensors(shapes, part)
        self._read_bytes += sum(tensor.nbytes for tensor in found)
        return found
