"""Device of stored tensors: quantised weights are taken apart where they will be multiplied, which a GPU does
faster than the host."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from octavo.loading.source import Slice, WeightSource
from octavo.loading.view import SourceView


class OnDevice(SourceView):
    """A `WeightSource` whose tensors are moved, in the dtype that they are stored in."""

    def __init__(self, source: WeightSource, device: torch.device) -> None:
        super().__init__(source)
        self._device = device

    def tensors(
        self, shapes: Mapping[str, tuple[int, ...]], part: Slice | None = None
    ) -> list[torch.Tensor]:
        return [stored.to(self._device) for stored in self._source.tensors(shapes, part)]
